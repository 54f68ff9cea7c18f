r"""Detection of your own things: a folder in the format of COCO, VOC or YOLO.

python -m pg.train --workdir runs/mine --config \
  transfers/detect_own.py:source=coco,train=mine/train.json,val=mine/val.json
python -m pg.train --workdir runs/mine --config \
  transfers/detect_own.py:source=yolo,train=mine

With coco, images lie beside the JSON files, or as COCO has them (train2017/
beside annotations/), or in `images` and `val_images`; without `val` the boxes
of training are evaluated on, as `seen_val`. With voc and yolo, `val` may be
another folder, and `train_split` and `val_split` name what they are called
there. Nothing needs to be prepared. Photos are turned upright by their EXIF
data: boxes are those of the image as one sees it.

As coco_det.py: the prompt is "detect all classes", `num` boxes are written, and
the score is COCO's average precision. All numbers are ours. `num` should be
above the number of things in an image.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(
    arg,
    res=448,
    source="coco",
    train="train",
    val="",
    images="",
    val_images="",
    train_split="train",
    val_split="val",
    num=32,
    init="",
    overfit=0,
  )
  c.init = c.arg.init or base.released(c.arg.model, c.res)
  c.text_len = 8 * c.arg.num + 8

  # What goes in, what should come out.
  c.data = data(c, c.arg.train, c.arg.images, c.arg.train_split)
  noise = "~" if c.arg.model.startswith("nano") else "<unused0>"
  image = f"decode(exif=True) | resize({c.res})"
  crowd = "objects(crowd=False) | " if c.arg.source == "coco" else ""
  c.pp = f"{image} | {crowd}detect_all({c.arg.num}, {noise!r})"

  # The recipe.
  c.total, c.batch_size, c.lr, c.wd = "30ep", 64, 1e-5, 0.0

  # What is measured.
  seen = c.arg.source == "coco" and not c.arg.val
  c.evals["seen_val" if seen else "val"] = dict(
    metric="coco_bbox",
    **data(c, c.arg.val or c.arg.train, c.arg.val_images, c.arg.val_split),
    pp=f"{image} | fmt('detect all classes', out='prefix')",
    max_len=8 * c.arg.num,
    forbid=(noise, "<eos>"),
    every="25%",
  )
  base.overfit(c, "all" if c.arg.source == "coco" else c.arg.train_split)
  return c


def data(c, path, images, split):
  """Returns the spec of a folder or file."""
  spec = dict(source=c.arg.source, path=path)
  if c.arg.source == "coco":
    return spec | (dict(image_root=images) if images else {})
  return spec | dict(split=split)
