"""DOCCI: photos, each described in several sentences.

From google.github.io/docci: docci_descriptions.jsonlines and, unpacked into
DIR, docci_images.tar.gz. Splits: train, test, qual_dev, qual_test.
"""

from scripts.prepare import release

DESCRIPTIONS = "docci_descriptions.jsonlines"
SITE = "from google.github.io/docci"
WANT = ("split", "example_id", "image_file", "description")
SIZES = dict(train=9647, test=5000, qual_dev=100, qual_test=100)
FILES = {DESCRIPTIONS: f"{DESCRIPTIONS} {SITE}"}


def _rows(raw, split):
  for _, row in raw.lines(DESCRIPTIONS, WANT):
    id = row["example_id"]
    # Photos of another set, "aar_train_00001", are in the same file.
    if id.rpartition("_")[0] != split:
      continue
    if split in ("train", "test") and row["split"] != split:
      continue
    yield {
      "image": raw.image(
        f"images/{row['image_file']}", f"docci_images.tar.gz {SITE}"
      ),
      **release.pick(row, "example_id", "description"),
    }


splits = release.table(_rows, SIZES, "photos", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
