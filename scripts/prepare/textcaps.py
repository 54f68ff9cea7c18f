"""TextCaps: captions of photos that say what is written in them.

  python -m scripts.prepare.textcaps --raw DIR --out data/textcaps

From textvqa.org/textcaps: TextCaps_0.1_{train,val,test}.json; unpacked into
DIR: train_val_images.zip and test_images.zip. Splits: train, val, test
(without captions).
"""

import functools

from scripts.prepare import release

CAPTIONS = "TextCaps_0.1_{}.json"
SITE = "from textvqa.org"
KEYS = ("data", "image_id", "image_name", "caption_str")
SPLITS = (
  ("train", "train_images", "train_val_images.zip", 21953),
  ("val", "train_images", "train_val_images.zip", 3166),
  ("test", "test_images", "test_images.zip", 3289),
)


def splits(raw):
  """Yields the splits of the release."""
  names = [CAPTIONS.format(split) for split, *_ in SPLITS]
  raw.need({name: f"{name} {SITE}" for name in names})
  for split, folder, archive, num in SPLITS:
    rows = functools.partial(_rows, raw, split, folder, f"{archive} {SITE}")
    yield release.Split(split, rows, num, "photos")


def _rows(raw, split, folder, archive):
  file, photos, texts = CAPTIONS.format(split), {}, {}
  keep = lambda found: {key: found[key] for key in KEYS if key in found}
  for row in raw.json(file, want=("data",), hook=keep)["data"]:
    id = row["image_id"]
    photos[id] = row["image_name"]
    said = texts.setdefault(id, [])
    if split != "test":
      said.append(row["caption_str"])
  for id, name in photos.items():
    yield {
      "image": raw.image(f"{folder}/{name}.jpg", archive),
      "image/id": id,
      **({"texts": texts[id]} if split != "test" else {}),
    }


if __name__ == "__main__":
  release.main(splits, __doc__)
