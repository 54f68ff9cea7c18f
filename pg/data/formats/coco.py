"""COCO's format: one JSON file of images and objects, and a folder of images.

  {"images": [{"id": 7, "file_name": "7.jpg", "height": 480, "width": 640}],
   "annotations": [{"image_id": 7, "category_id": 18, "bbox": [x, y, w, h],
                    "iscrowd": 0, "area": 9.5, "segmentation": [[x, y, ...]]}],
   "categories": [{"id": 18, "name": "dog"}]}

(https://cocodataset.org/#format-data.) Parsing COCO's own file takes a minute
and gigabytes, so each image's part of it is kept (index.Index), and training
starts at once the next time.
"""

import glob
import json
import os

import numpy as np

from pg.data.formats import folders, splits
from pg.data.storage import files, index, lookup
from pg.pp import objects

# Images that are looked for, to find the folder that they are in.
_TRIED = 10


class Coco(splits.Sliced):
  """One row per image, also those without objects.

  Besides what folders.py says, a row has `file_name`, and in lists as long as
  `boxes` what the file has: `iscrowd` (1: a box around many), `area` (None
  without one) and `segmentation` (polygons or run lengths, in pixels). With
  captions it has `captions`, a list of str.
  """

  def __init__(self, path, image_root=None, captions=None, split=None):
    """Reads the annotations, if no earlier process did.

    Args:
      path: str, the JSON file of objects or its URL, which is the split "all";
        or a mapping from splits to those.
      image_root: str, the folder that file names are relative to (or a tar
        file, or a URL); None is the folder of `path`, or where COCO's own
        layout has images: train2017/ of annotations/instances_train2017.json,
        or images/, beside annotations/ or in it. Or a mapping.
      captions: str, the JSON file of captions, or a mapping; None: without.
      split: str, split syntax as in "all[:90%]"; None is all of one file.

    Raises:
      ValueError: no such file, or one that is not COCO's format.
    """
    paths = path if hasattr(path, "items") else {"all": path}
    given = dict(path=paths, image_root=image_root, captions=captions)
    one = lambda name: _Images(
      **{key: folders.of_split(value, name) for key, value in given.items()}
    )
    super().__init__(paths, one, split)


def _is_folder(path):
  """Returns what to say of a folder in place of a file."""
  found = sorted(
    glob.glob(os.path.join(glob.escape(path), "**/*.json"), recursive=True)
  )
  some = f"; there is {', '.join(found[:5])}" if found else ""
  return f"{path} is a folder: give the JSON file of objects{some}"


class _Images(folders.Rows):
  """The images of one file."""

  def __init__(self, path, image_root, captions):
    self._path, self._captions = os.fspath(path), captions
    if os.path.isdir(self._path):
      raise ValueError(_is_folder(self._path))
    names = [self._path] if captions is None else [self._path, captions]
    try:
      self._index = index.Index(write, *map(files.local, names))
    except OSError as e:
      raise ValueError(f"cannot read {self._path}: {e}") from e
    self._image_root = self._find() if image_root is None else image_root

  def __len__(self):
    return int(self._index.data[-8:].view(np.int64)[0])

  def where(self, i):
    """Returns file and image of row i: "val.json image 7 (7.jpg)"."""
    image = self._part(i)["image"]
    return f"{self._path} image {image.get('id')} ({image.get('file_name')})"

  def parts(self):
    """Yields what the rows are made of: paths of files, and where rows end."""
    yield from self._index.paths
    yield self._ends()

  def _root(self, i):
    return self._image_root

  def _folder(self, i):
    return os.path.dirname(self._path)

  def _find(self):
    """Returns the folder that has the images: of the file, or beside it."""
    here, stem = os.path.split(os.path.splitext(self._path)[0])
    split, up = stem.rpartition("_")[2], os.path.join(here, os.pardir)
    parts = ((), ("images",), (split,), ("images", split))
    for base in (here, up):
      for part in parts:
        folder = os.path.normpath(os.path.join(base, *part))
        for i in range(min(_TRIED, len(self))):
          name = self._part(i)["image"].get("file_name")
          if lookup.find(str(name), folder):
            return folder
    return here

  def _ends(self):
    return self._index.data.view(np.int64)[-1 - len(self) : -1]

  def _part(self, i):
    ends = self._ends()
    start = int(ends[i - 1]) if i else 0
    return json.loads(self._index.data[start : int(ends[i])].tobytes())

  def _row(self, i):
    part = self._part(i)
    image, annotations = part["image"], part["objects"]
    name = image.get("file_name")
    if not isinstance(name, str) or not name:
      raise ValueError(f'"file_name" should be a name, got {name!r}')
    size = [folders.positive(image.get(key)) for key in ("height", "width")]
    if annotations and None in size:
      raise ValueError('"height" and "width" of the image should be pixels')
    found = [_object(number, a, *size) for number, a in enumerate(annotations)]
    keys = ("boxes", "labels", "iscrowd", "area", "segmentation")
    row = {"image": name, "image_id": image.get("id"), "file_name": name}
    row["height"], row["width"] = size if None not in size else (None, None)
    row.update((key, [f[k] for f in found]) for k, key in enumerate(keys))
    if self._captions is not None:
      row["captions"] = [_caption(c) for c in part["captions"]]
    return row


def _object(number, a, height, width):
  """Returns box, label, iscrowd, area and segmentation of an annotation.

  The last three may be null or not there: 0, None and [].
  """
  name = f"object {number} (annotation {a.get('id')})"
  if not isinstance(a.get("label"), str) or not a["label"]:
    raise ValueError(
      f"{name}: category_id {a.get('category_id')!r} is in no category"
    )
  try:
    x, y, w, h = folders.numbers(a.get("bbox"), 4)
    box = folders.box((x, y, x + w, y + h), width, height, slack=1)
  except ValueError as e:
    raise ValueError(f'{name}: "bbox" {a.get("bbox")}: {e}') from e
  # Tools leave these out, or null.
  try:
    crowd = objects.flag(a.get("iscrowd"), "iscrowd")
    area = objects.area(a.get("area"))
  except ValueError as e:
    raise ValueError(f"{name}: {e}") from e
  outline = [] if a.get("segmentation") is None else a["segmentation"]
  if not isinstance(outline, list | dict):
    raise ValueError(
      f'{name}: "segmentation" should be polygons or run lengths, got'
      f" {str(outline)[:80]}"
    )
  return box, a["label"], crowd, area, outline


def _caption(annotation):
  text = annotation.get("caption")
  if not isinstance(text, str):
    raise ValueError(
      f'annotation {annotation.get("id")}: "caption" should be text, got'
      f" {text!r}"
    )
  return text.strip()


def write(path, *others):
  """Writes the parts of the images, and at the end where they are.

  Those are JSON, one after the other; then where each of them ends, and how
  many there are, all i64.
  """
  *captions, sink = others
  data = _parse(path, "images")
  labels = {
    str(c.get("id")): c.get("name") for c in _list(data, "categories", path)
  }
  parts = {}
  for number, image in enumerate(_list(data, "images", path)):
    part = {"image": image, "objects": [], "captions": []}
    if parts.setdefault(str(image.get("id")), part) is not part:
      raise ValueError(
        f"{path}: images[{number}] has the id of another, {image.get('id')!r}"
      )
  if not parts:
    raise ValueError(f"{path} has no images")
  for a, part in _of_images(data, parts, path):
    a["label"] = labels.get(str(a.get("category_id")))
    part["objects"].append(a)
  for path in captions:
    for a, part in _of_images(_parse(path, "annotations"), parts, path):
      part["captions"].append(a)
  ends = []
  for part in parts.values():
    sink.write(json.dumps(part).encode())
    ends.append(sink.tell())
  sink.write(b" " * (-sink.tell() % 8))
  sink.write(np.array([*ends, len(ends)], np.int64).tobytes())


def _parse(path, key):
  with open(path, "rb") as f:
    try:
      data = json.load(f)
    except (ValueError, RecursionError) as e:
      lines = (
        '; JSON lines are source="jsonl"' if "Extra data" in str(e) else ""
      )
      raise ValueError(f"{path} is not JSON: {e}{lines}") from e
  if not isinstance(data, dict) or key not in data:
    got = ", ".join(data) if isinstance(data, dict) else type(data).__name__
    raise ValueError(
      f"{path} is not COCO's format: wanted an object with {key!r}, got"
      f" {got[:200] or 'an empty one'}"
    )
  return data


def _list(data, key, path):
  """Returns a list of objects."""
  values = data.get(key, [])
  if not isinstance(values, list):
    raise ValueError(f"{path}: {key} should be a list, got {str(values)[:80]}")
  for number, value in enumerate(values):
    if not isinstance(value, dict):
      raise ValueError(
        f"{path}: {key}[{number}] should be an object, got {str(value)[:80]}"
      )
  return values


def _of_images(data, parts, path):
  """Yields each annotation with the part of its image."""
  for number, a in enumerate(_list(data, "annotations", path)):
    if str(a.get("image_id")) not in parts:
      raise ValueError(
        f"{path}: annotations[{number}] is of an image that is not in images:"
        f" image_id {a.get('image_id')!r}"
      )
    yield a, parts[str(a["image_id"])]
