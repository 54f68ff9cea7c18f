"""VSR: is a sentence about the places of two things true of a photo?

From github.com/cambridgeltl/visual-spatial-reasoning data/splits; from there
vsr_images.zip, which holds images/, or from cocodataset.org train2017.zip and
val2017.zip. Splits: zeroshot_train, zeroshot_dev, zeroshot_test, where no thing
is in two of them, and random_train, random_dev, random_test. The repository has
had zeroshot in two sizes: 3,489 / 340 / 1,222 and 4,713 / 231 / 616.
"""

from scripts.prepare import release

SIZES = dict(
  zeroshot_train=(None, "zeroshot/train.jsonl"),
  zeroshot_dev=(None, "zeroshot/dev.jsonl"),
  zeroshot_test=(None, "zeroshot/test.jsonl"),
  random_train=(7680, "random/train.jsonl"),
  random_dev=(1097, "random/dev.jsonl"),
  random_test=(2195, "random/test.jsonl"),
)
WANT = ("image", "image_link", "caption", "label", "relation")
REPOSITORY = "github.com/cambridgeltl/visual-spatial-reasoning"
IMAGES = f"vsr_images.zip from {REPOSITORY}"
FILES = {"{1}": f"data/splits of {REPOSITORY}"}


def _rows(raw, _, file):
  together = raw.find("images") is not None
  for number, (where, q) in enumerate(raw.lines(file, WANT)):
    if q["label"] not in (0, 1):
      raise ValueError(f"{where}: the label is {q['label']!r}; wanted 0 or 1")
    year = q["image_link"].split("/")[-2]
    yield {
      "image": raw.image(f"images/{q['image']}", IMAGES)
      if together
      else raw.coco(year, q["image"]),
      "example_id": number,
      "image_name": q["image"],
      **release.pick(q, sentence="caption", relation="relation"),
      "label": str(q["label"] == 1),
    }


splits = release.table(_rows, SIZES, "sentences", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
