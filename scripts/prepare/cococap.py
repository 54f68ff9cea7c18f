"""COCO captions: photos with five captions each, in the splits of Karpathy.

From cocodataset.org, unpacked into DIR: annotations_trainval2014.zip,
train2014.zip and val2014.zip; from Karpathy's page at Stanford (deepimagesent)
caption_datasets.zip. Splits: train, restval (of val2014, to train on), val,
test.
"""

import functools

from scripts.prepare import release

KARPATHY = "dataset_coco.json"
ARCHIVE = "caption_datasets.zip from Karpathy's page at Stanford"
KEYS = ("cocoid", "filepath", "filename", "split")
ZIPPED = "annotations_trainval2014.zip from cocodataset.org"
ANNOTATIONS = [
  f"annotations/captions_{year}.json" for year in ("train2014", "val2014")
]
SIZES = dict(train=82783, restval=30504, val=5000, test=5000)
FILES = {KARPATHY: ARCHIVE, **dict.fromkeys(ANNOTATIONS, ZIPPED)}


@functools.cache  # for all splits
def photos(raw):
  """Returns Karpathy's list of photos, dicts of KEYS."""
  keep = lambda found: {
    key: found[key] for key in ("images", *KEYS) if key in found
  }
  return raw.json(KARPATHY, want=("images",), hook=keep)["images"]


def image(raw, photo):
  """Returns the path of one of the `photos`."""
  return raw.coco(photo["filepath"], photo["filename"])


@functools.cache
def _captions(raw):
  """Returns {photo: {"id": numbers of its captions, "text": these}}."""
  said = {}
  for file in ANNOTATIONS:
    for a in raw.json(file, want=("annotations",))["annotations"]:
      of_photo = said.setdefault(a["image_id"], {"id": [], "text": []})
      of_photo["id"].append(a["id"])
      of_photo["text"].append(a["caption"])
  return said


def _rows(raw, split):
  for photo in photos(raw):
    if photo["split"] != split:
      continue
    id = photo["cocoid"]
    lacks = f"photo {id} of {KARPATHY} has no captions"
    yield {
      "image": image(raw, photo),
      "image/id": id,
      "image/filename": photo["filename"],
      "captions": release.match(
        _captions(raw), id, lacks, ", ".join(ANNOTATIONS)
      ),
    }


splits = release.table(_rows, SIZES, "photos", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
