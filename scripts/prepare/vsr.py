"""VSR: is a sentence about the places of two things true of a photo?

  python -m scripts.prepare.vsr --raw DIR --out data/vsr

From github.com/cambridgeltl/visual-spatial-reasoning data/splits; from there
vsr_images.zip, which holds images/, or from cocodataset.org train2017.zip and
val2017.zip. Splits: zeroshot_train, zeroshot_dev, zeroshot_test, where no thing
is in two of them, and random_train, random_dev, random_test. The repository has
had zeroshot in two sizes: 3,489 / 340 / 1,222 and 4,713 / 231 / 616.
"""

import functools

from scripts.prepare import release

KINDS = ("zeroshot", "random")
NUM = dict(train=7680, dev=1097, test=2195)  # of random
WANT = ("image", "image_link", "caption", "label", "relation")


def splits(raw):
  """Yields the splits of the release."""
  site = "data/splits of github.com/cambridgeltl/visual-spatial-reasoning"
  raw.need({f"{kind}/{s}.jsonl": site for kind in KINDS for s in NUM})
  for kind in KINDS:
    for split, num in NUM.items():
      rows = functools.partial(_rows, raw, f"{kind}/{split}.jsonl")
      num = num if kind == "random" else None
      yield release.Split(f"{kind}_{split}", rows, num, "sentences")


def _rows(raw, file):
  together = raw.find("images") is not None
  for number, (where, q) in enumerate(raw.lines(file, WANT)):
    if q["label"] not in (0, 1):
      raise ValueError(f"{where}: the label is {q['label']!r}; wanted 0 or 1")
    year = q["image_link"].split("/")[-2]
    yield {
      "image": raw.image(
        f"{'images' if together else year}/{q['image']}",
        "vsr_images.zip from github.com/cambridgeltl/visual-spatial-reasoning"
        if together
        else f"{year}.zip from cocodataset.org",
      ),
      "example_id": number,
      "image_name": q["image"],
      "sentence": q["caption"],
      "relation": q["relation"],
      "label": str(q["label"] == 1),
    }


if __name__ == "__main__":
  release.main(splits, __doc__)
