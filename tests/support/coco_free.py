"""Photos of COCO that everybody may copy, with their objects and captions."""

import gzip
import json
import shutil

from PIL import Image

from tests.support import paths

GOLDEN = paths.GOLDEN / "coco_free"


def read(name):
  """Returns the bytes of an annotation file, "instances_val.json"."""
  return gzip.decompress((GOLDEN / f"{name}.gz").read_bytes())


def write(folder):
  """Writes annotations and images/; what is no photo here is plain."""
  (folder / "images").mkdir()
  for split in ("train", "val"):
    for kind in ("instances", "captions"):
      name = f"{kind}_{split}.json"
      (folder / name).write_bytes(read(name))
    for image in json.loads(read(f"instances_{split}.json"))["images"]:
      path = folder / "images" / image["file_name"]
      if (GOLDEN / path.name).exists():
        shutil.copy(GOLDEN / path.name, path)
      else:
        Image.new("RGB", (image["width"], image["height"])).save(path)
  return folder
