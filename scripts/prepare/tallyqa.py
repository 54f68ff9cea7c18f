"""TallyQA: how many are there? Simple and complex questions about photos.

From github.com/manoja328/tallyqa tallyqa.zip; from cocodataset.org
train2014.zip and val2014.zip; from the Visual Genome page images.zip and
images2.zip, which hold VG_100K and VG_100K_2; unpacked into DIR. Splits: train,
test. `issimple` is 1, 0, or -1 in train, where it is not known.
"""

from scripts.prepare import release

SIZES = dict(train=249318, test=38589)
WANT = ("answer", "image", "image_id", "question", "question_id")
ARCHIVES = {
  "VG_100K": "images.zip from the Visual Genome page",
  "VG_100K_2": "images2.zip from the Visual Genome page",
  "train2014": "train2014.zip from cocodataset.org",
  "val2014": "val2014.zip from cocodataset.org",
}
FILES = {"{}.json": "tallyqa.zip from github.com/manoja328/tallyqa"}


def _rows(raw, split):
  more = ("issimple",) * (split == "test")
  for q in raw.json(f"{split}.json", want=WANT + more):
    folder = q["image"].split("/")[0]
    if folder not in ARCHIVES:
      raise ValueError(
        f"{split}.json: question {q['question_id']} has the image"
        f" {q['image']!r}; wanted one in {', '.join(ARCHIVES)}"
      )
    yield {
      "image": raw.image(q["image"], ARCHIVES[folder]),
      "image_id": q["image_id"],
      "image_source": q.get("data_source", ""),
      **release.pick(q, "question_id", "question"),
      "answer": int(q["answer"]),
      "issimple": int(q["issimple"]) if more else -1,
    }


splits = release.table(_rows, SIZES, "questions", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
