"""COCO detection of 2017: boxes around things of 80 kinds.

From cocodataset.org, unpacked into DIR: annotations_trainval2017.zip,
image_info_test2017.zip, train2017.zip, val2017.zip and test2017.zip. Splits:
train, val and test (test-dev, without boxes).
"""

from pg.data.formats import folders
from scripts.prepare import release

BOXES = "annotations_trainval2017.zip"
SIZES = dict(
  train=(118287, "instances_train2017.json", BOXES),
  val=(5000, "instances_val2017.json", BOXES),
  test=(20288, "image_info_test-dev2017.json", "image_info_test2017.zip"),
)
FILES = {"{1}": "{2} from cocodataset.org"}


def _rows(raw, split, name, _):
  answered = split != "test"
  want = ("images", "categories", *(("annotations",) if answered else ()))
  made = raw.json(name, want=want, hook=_without_outlines)
  labels = {c["id"]: c["name"] for c in made["categories"]}
  annotations = made.get("annotations", ())
  objects = release.grouped((a["image_id"], a) for a in annotations)
  for image in made["images"]:
    row = {
      "image": raw.coco(f"{split}2017", image["file_name"]),
      "image_id": image["id"],
      **release.pick(image, "height", "width"),
    }
    if answered:
      found = objects.get(image["id"], ())
      size = image["width"], image["height"]
      row["boxes"] = [_box(name, a, *size) for a in found]
      row["labels"] = [labels[a["category_id"]] for a in found]
      row["iscrowd"] = [a.get("iscrowd") or 0 for a in found]
      row["area"] = [a.get("area") for a in found]
    yield row


def _box(name, annotation, width, height):
  x, y, w, h = annotation["bbox"]
  try:
    return folders.box((x, y, x + w, y + h), width, height, slack=1)
  except ValueError as e:
    raise ValueError(f"{name}: annotation {annotation['id']}: {e}") from e


def _without_outlines(item):
  item.pop("segmentation", None)  # most of the file
  return item


splits = release.table(_rows, SIZES, "images", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
