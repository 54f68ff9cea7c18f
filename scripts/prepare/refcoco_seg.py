"""RefCOCO, RefCOCO+ and RefCOCOg: sentences that mean one thing in a photo.

From github.com/lichengunc/refer, unpacked into DIR: refcoco/refs(unc).p,
refcoco+/refs(unc).p and refcocog/refs(umd).p; from cocodataset.org
annotations_trainval2017.zip and train2017.zip (or train2014.zip).

train has a row for each image of the three training sets that is in none of
their other sets: `boxes`, `segmentation` and `sentences` of what is meant. The
others have a row for each sentence: refcoco_val, refcoco_testA, refcoco_testB,
refcocoplus_val, refcocoplus_testA, refcocoplus_testB, refcocog_val and
refcocog_test.
"""

import collections
import functools
import io
import pickle

from pg.data.formats import folders
from scripts.prepare import release

FILES = dict(
  refcocog="refcocog/refs(umd).p",
  refcoco="refcoco/refs(unc).p",
  refcocoplus="refcoco+/refs(unc).p",
)
SIZES = dict(
  train=24407,  # images
  refcoco_val=10834,
  refcoco_testA=5657,
  refcoco_testB=5095,
  refcocoplus_val=10758,
  refcocoplus_testA=5726,
  refcocoplus_testB=4889,
  refcocog_val=4896,
  refcocog_test=9602,
)
OBJECTS = "instances_train2017.json"


def splits(raw):
  """Yields the splits of the release."""
  site = "of github.com/lichengunc/refer"
  files = {f: f"{f.split('/')[0]}.zip {site}" for f in FILES.values()}
  files[OBJECTS] = "annotations_trainval2017.zip from cocodataset.org"
  raw.need(files)
  made = functools.cache(lambda: _Release(raw))
  for name, num in SIZES.items():
    rows = functools.partial(_rows, made, name)
    yield release.Split(
      name, rows, num, "images" if name == "train" else "rows"
    )


def _rows(made, name):
  return made().images() if name == "train" else made().sentences(name)


class _Release:
  """All references, and the objects and images that they are about."""

  def __init__(self, raw):
    self._raw = raw
    self._refs = {
      name: _references(raw.path(file)) for name, file in FILES.items()
    }
    used = {ref["ann_id"] for refs in self._refs.values() for ref in refs}
    made = raw.json(
      OBJECTS,
      want=("images", "annotations"),
      hook=functools.partial(_used, used),
    )
    self._sizes = {i["id"]: (i["height"], i["width"]) for i in made["images"]}
    self._objects = {a["id"]: a for a in made["annotations"] if a}

  def images(self):
    """Yields the rows of training."""
    refs = [ref for refs in self._refs.values() for ref in refs]
    held_out = {ref["image_id"] for ref in refs if ref["split"] != "train"}
    found = collections.defaultdict(lambda: collections.defaultdict(list))
    for ref in refs:
      if ref["image_id"] not in held_out:
        said = found[ref["image_id"]][ref["ann_id"]]
        said += [sentence["sent"] for sentence in ref["sentences"]]
    for image_id, objects in sorted(found.items()):
      places = [self._place(image_id, ann_id) for ann_id in objects]
      yield self._image(image_id) | {
        "boxes": [box for box, _ in places],
        "segmentation": [outline for _, outline in places],
        "sentences": list(objects.values()),
      }

  def sentences(self, name):
    """Yields the rows of "refcoco_val" and the like."""
    which, split = name.split("_")
    for ref in self._refs[which]:
      if ref["split"] != split:
        continue
      box, outline = self._place(ref["image_id"], ref["ann_id"])
      for sentence in ref["sentences"]:
        yield self._image(ref["image_id"]) | {
          "ref_id": ref["ref_id"],
          "sent_id": sentence["sent_id"],
          "sentence": sentence["sent"],
          "box": box,
          "segmentation": outline,
        }

  def _image(self, id):
    height, width = self._sizes[id]
    path = self._raw.video(
      f"{id:012d}",
      ["train2017/{}.jpg", "train2014/COCO_train2014_{}.jpg"],
      "train2017.zip from cocodataset.org",
    )
    return {"image": path, "image_id": id, "height": height, "width": width}

  def _place(self, image_id, ann_id):
    """Returns the box and the outline of an object."""
    if ann_id not in self._objects or image_id not in self._sizes:
      raise ValueError(
        f"{OBJECTS} has no annotation {ann_id} of image {image_id}, which is"
        " referred to; is it the file of 2017?"
      )
    found = self._objects[ann_id]
    x, y, w, h = found["bbox"]
    height, width = self._sizes[image_id]
    box = folders.box((x, y, x + w, y + h), width, height, slack=1)
    return box, found["segmentation"]


def _used(used, item):
  """Returns of an object of the JSON what is needed: COCO's has 860,000."""
  if "segmentation" in item and item["id"] not in used:
    return None
  return item


class _Plain(pickle.Unpickler):
  """Reads lists, dicts, texts and numbers: a pickle can run any program."""

  def find_class(self, module, name):
    raise pickle.UnpicklingError(f"it has a {module}.{name}")


def _references(path):
  """Returns the references of a file, a list of dicts.

  Raises:
    ValueError: no pickle of plain data, or references without a key.
  """
  with open(path, "rb") as f:
    data = io.BytesIO(f.read())
  try:
    refs = _Plain(data, encoding="utf-8").load()
    refs = [dict(ref) for ref in refs]
  except Exception as e:  # a broken pickle raises nearly anything
    raise ValueError(f"{path} is no pickle of references: {e}") from e
  for number, ref in enumerate(refs):
    for key in ("ref_id", "ann_id", "image_id", "split", "sentences"):
      if key not in ref:
        raise ValueError(
          f"{path}: reference {number} has no {key!r}, only"
          f" {', '.join(map(repr, ref))}"
        )
  return refs


if __name__ == "__main__":
  release.main(splits, __doc__)
