"""RefCOCO and COCO detection: photos with two or three objects."""

import json
import pickle

from tests.support.releases import pictures

CATEGORIES = [
  dict(supercategory="sports", id=38, name="kite"),
  dict(supercategory="furniture", id=64, name="potted plant"),
]
RUNS = dict(counts=[96, 24, 8, 1872], size=[40, 50])


def image(id, width=50, height=40):
  return dict(
    license=1,
    file_name=f"{id:012d}.jpg",
    coco_url="…",
    height=height,
    width=width,
    date_captured="…",
    flickr_url="…",
    id=id,
  )


def annotation(id, image_id, x, y, w, h, category_id=38, iscrowd=0):
  outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
  return dict(
    segmentation=RUNS if iscrowd else outline,
    area=float(w * h),
    iscrowd=iscrowd,
    image_id=image_id,
    bbox=[x, y, w, h],
    category_id=category_id,
    id=id,
  )


def instances(ids):
  """Returns COCO's file of images with a kite, a plant and a crowd each."""
  annotations = [
    one
    for id in ids
    for one in (
      annotation(10 * id, id, 10.0, 8.0, 30.0, 16.0),
      annotation(10 * id + 1, id, 0.5, 20.25, 20.0, 19.75, category_id=64),
      annotation(10 * id + 2, id, 2.0, 16.0, 1.0, 24.0, iscrowd=1),
    )
  ]
  return dict(
    info={},
    licenses=[],
    images=[image(id) for id in ids],
    annotations=annotations,
    categories=CATEGORIES,
  )


def photos(folder, ids):
  for id in ids:
    pictures.write(folder / f"{id:012d}.jpg", (50, 40), id)


def coco_det(raw):
  """Writes two images of train and val, and of test one without boxes."""
  for split, ids in dict(train=(1, 2), val=(3, 4)).items():
    made = instances(ids)
    made["images"].append(image(10 + ids[0]))  # nothing in it
    photos(raw / f"{split}2017", (*ids, 10 + ids[0]))
    write(raw / f"annotations/instances_{split}2017.json", made)
  made = dict(info={}, images=[image(5)], licenses=[], categories=CATEGORIES)
  photos(raw / "test2017", [5])
  write(raw / "annotations/image_info_test-dev2017.json", made)


def detect_own(raw):
  """Writes COCO's format with images beside it."""
  for split, ids in dict(train=(1, 2), val=(3,)).items():
    photos(raw / split, ids)
    write(raw / split / "boxes.json", instances(ids))


def refcoco_seg(raw):
  """Writes three images to train on, and one for each of the other splits.

  Image 3 is in the training set of RefCOCO, and in RefCOCOg's val.
  """
  ids = dict(val=4, testA=5, testB=6, test=7)
  for name, splits in (
    ("refcoco/refs(unc).p", ("val", "testA", "testB")),
    ("refcoco+/refs(unc).p", ("val", "testA", "testB")),
    ("refcocog/refs(umd).p", ("val", "test")),
  ):
    refs = [reference(10 * id, id, "train") for id in (1, 2, 3)]
    refs.append(reference(11, 1, "train"))
    refs += [reference(10 * ids[split], ids[split], split) for split in splits]
    if "umd" in name:
      refs[2]["split"] = "val"
    path = raw / name
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps(refs, protocol=0))
    write(path.parent / "instances.json", {})
  ids = (1, 2, 3, *ids.values())
  write(raw / "annotations/instances_train2017.json", instances(ids))
  photos(raw / "train2017", ids)


def reference(ann_id, image_id, split):
  said = ("red kite", "kite on the left")
  ids = [2 * ann_id + k for k in range(len(said))]
  return dict(
    ref_id=ann_id,
    ann_id=ann_id,
    image_id=image_id,
    category_id=38,
    file_name=f"COCO_train2014_{image_id:012d}_{ann_id}.jpg",
    split=split,
    sent_ids=ids,
    sentences=[
      dict(sent_id=id, sent=text, raw=text, tokens=text.split())
      for id, text in zip(ids, said)
    ],
  )


def write(path, made):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(made), encoding="utf-8")


ROWS = dict(refcoco_seg=refcoco_seg, coco_det=coco_det, detect_own=detect_own)
PREPARES = dict(detect_own=[])
ARGS = dict(
  refcoco_seg="codec=nano",
  coco_det="num=4",
  detect_own="num=4,train={raw}/train/boxes.json,val={raw}/val/boxes.json",
)
