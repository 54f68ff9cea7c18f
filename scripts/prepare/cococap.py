"""COCO captions: photos with five captions each, in the splits of Karpathy.

  python -m scripts.prepare.cococap --raw DIR --out data/cococap

From cocodataset.org, unpacked into DIR: annotations_trainval2014.zip,
train2014.zip and val2014.zip; from Karpathy's page at Stanford (deepimagesent)
caption_datasets.zip. Splits: train, restval (of val2014, to train on), val,
test.
"""

import functools

from scripts.prepare import release

KARPATHY = "dataset_coco.json"
ARCHIVE = "caption_datasets.zip from Karpathy's page at Stanford"
COCO = "from cocodataset.org"
CAPTIONS = "captions_{}.json"
KEYS = ("cocoid", "filepath", "filename", "split")
SPLITS = (("train", 82783), ("restval", 30504), ("val", 5000), ("test", 5000))


def splits(raw):
  """Yields the splits of the release."""
  files = [
    f"annotations/{CAPTIONS.format(y)}" for y in ("train2014", "val2014")
  ]
  zipped = f"annotations_trainval2014.zip {COCO}"
  raw.need({KARPATHY: ARCHIVE, **dict.fromkeys(files, zipped)})
  listed = functools.cache(lambda: photos(raw))
  said = functools.cache(functools.partial(_captions, raw, files))
  for split, num in SPLITS:
    rows = functools.partial(_rows, raw, listed, said, split)
    yield release.Split(split, rows, num, "photos")


def photos(raw):
  """Returns Karpathy's list of photos, dicts of KEYS."""
  keep = lambda found: {
    key: found[key] for key in ("images", *KEYS) if key in found
  }
  return raw.json(KARPATHY, want=("images",), hook=keep)["images"]


def image(raw, photo):
  """Returns the path of one of the `photos`."""
  folder = photo["filepath"]
  return raw.image(f"{folder}/{photo['filename']}", f"{folder}.zip {COCO}")


def _captions(raw, files):
  """Returns {photo: {"id": numbers of its captions, "text": these}}."""
  said = {}
  for file in files:
    for a in raw.json(file, want=("annotations",))["annotations"]:
      of_photo = said.setdefault(a["image_id"], {"id": [], "text": []})
      of_photo["id"].append(a["id"])
      of_photo["text"].append(a["caption"])
  return said


def _rows(raw, listed, said, split):
  for photo in listed():
    if photo["split"] != split:
      continue
    id = photo["cocoid"]
    if id not in said():
      raise ValueError(
        f"photo {id} of {KARPATHY} has no captions in the files of COCO; are"
        " these of 2014?"
      )
    yield {
      "image": image(raw, photo),
      "image/id": id,
      "image/filename": photo["filename"],
      "captions": said()[id],
    }


if __name__ == "__main__":
  release.main(splits, __doc__)
