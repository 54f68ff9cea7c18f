"""ActivityNet-QA: questions about videos of some minutes.

From github.com/MILVLG/activitynet-qa, dataset/ in DIR: {train,val,test}_q.json
and those with _a; the videos of ActivityNet as v_<id>.mp4, or <id>.mp4. Splits:
train, val, test. Of these PaliGemma had 27,610, 15,760 and 6,900 questions.
--verify leaves out broken videos.
"""

from scripts.prepare import clips, release

SIZES = dict(train=32000, val=18000, test=8000)
SITE = "dataset/ of github.com/MILVLG/activitynet-qa"
FILES = {"{}_q.json": SITE, "{}_a.json": SITE}
VIDEOS = "videos of ActivityNet 200 v1.3 from activity-net.org"


def _rows(raw, split):
  want = ("answer", "type", "question_id")
  found = raw.json(f"{split}_a.json", want=want)
  answers = {a["question_id"]: a for a in found}
  want = ("video_name", "question", "question_id")
  for q in raw.json(f"{split}_q.json", want=want):
    id, video = q["question_id"], q["video_name"]
    lacks = f"question {id} of {split}_q.json has no answer"
    answer = release.match(answers, id, lacks, f"{split}_a.json")
    yield {
      "video": clips.find(raw, [f"v_{video}", video], VIDEOS),
      "video_id": video,
      "question_id": id,
      "question": q["question"],
      "answer": answer["answer"],
      "question_type": answer["type"],
    }


splits = release.table(_rows, SIZES, "questions", FILES, clips.splits)

if __name__ == "__main__":
  release.main(splits, __doc__, verify=clips.VERIFY)
