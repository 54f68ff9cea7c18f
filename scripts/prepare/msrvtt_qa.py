"""MSRVTT-QA: questions that were made from the captions of MSR-VTT.

From github.com/xudejing/video-question-answering, unpacked into DIR:
train_qa.json, val_qa.json and test_qa.json; from the MSR-VTT challenge or a
mirror the clips video0.mp4 to video9999.mp4. Splits: train, val, test. Of these
PaliGemma had 114,080, 7,936 and 51,680 questions. --verify leaves out broken
clips.
"""

from scripts.prepare import clips, release

FILES = {
  "{}_qa.json": "MSRVTT-QA from github.com/xudejing/video-question-answering"
}
CLIPS = "TrainValVideo.zip and TestVideo.zip from the MSR-VTT challenge"
SIZES = dict(train=158581, val=12278, test=72821)


def _rows(raw, split):
  file = "video{}".format
  return clips.questions(raw, f"{split}_qa.json", file, CLIPS)


splits = release.table(_rows, SIZES, "questions", FILES, clips.splits)

if __name__ == "__main__":
  release.main(splits, __doc__, verify=clips.VERIFY)
