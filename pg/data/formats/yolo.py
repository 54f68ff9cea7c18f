"""YOLO's format: images/, and in labels/ a text file for each of them.

  data.yaml            names: [dog, cat], train: images/train, val: images/val
  images/train/7.jpg
  labels/train/7.txt   "0 0.5 0.5 0.2 0.1": class, middle x and y, width, height
                       as fractions

(https://docs.ultralytics.com/datasets/detect.) Without a data.yaml the names
are the lines of classes.txt, and the folders in images/ are the splits. An
image without a file has no objects. Other lines become boxes, too:

  class x1 y1 x2 y2 x3 y3 x4 y4   an oriented box: the upright one around it
  class x1 y1 x2 y2 x3 y3 ...     a segment: the box around the polygon
  class x y w h and keypoints     a pose, where data.yaml has kpt_shape: [17, 3]
                                  or so: its box; the keypoints are left out
"""

import os

from pg.data.formats import folders, splits
from pg.data.storage import files, lookup, text


class Yolo(splits.Sliced):
  """One row per image; folders.py says what is in it."""

  def __init__(self, path, split=None):
    """Finds the images.

    Args:
      path: str, the folder of the dataset or its data.yaml; the folder may be a
        URL.
      split: str, split syntax: "train[:90%]"; None where there is only one.

    Raises:
      ValueError: no such folder or split, no names of classes, no images, or
        labels for none of them.
    """
    path = files.local(path)
    file = os.path.join(path, "data.yaml") if os.path.isdir(path) else path
    if os.path.isfile(file):
      root, names, found, keypoints = _described(file)
    else:
      root, names, found = path, _listed(path), _found(path)
      keypoints = 0
    one = lambda name: _Images(
      root, names, _images(root, found[name]), keypoints
    )
    super().__init__(found, one, split)


def _described(file):
  """Returns root, names of classes by number, splits and numbers of a pose.

  The last is how many numbers keypoints add to a line, 0 where there are none.
  """
  import yaml  # it takes long to load

  try:
    data = text.read(file)
    spec = yaml.safe_load(data)
    # One stands for a list, a list of them for a longer one, and so on.
    if any(isinstance(e, yaml.AliasEvent) for e in yaml.parse(data)):
      raise ValueError("it has aliases (*name); write out what they stand for")
  except (OSError, ValueError, RecursionError, yaml.YAMLError) as e:
    raise ValueError(f"{file} is not YAML: {e}") from e
  names = spec.get("names") if isinstance(spec, dict) else None
  if isinstance(names, list):
    names = dict(enumerate(names))
  if not names or not all(isinstance(k, int) for k in names):
    raise ValueError(
      f'{file}: "names" should be a list of classes, or numbers and classes'
    )
  root = os.path.dirname(file)
  given = os.path.join(root, str(spec.get("path") or ""))
  # `path` is where the dataset was on the machine that wrote the file.
  root = given if os.path.isdir(given) else root
  found = {k: spec[k] for k in ("train", "val", "test") if spec.get(k)}
  names = {k: str(name) for k, name in names.items()}
  return root, names, found, _keypoints(file, spec)


def _keypoints(file, spec):
  """Returns how many numbers the keypoints of a line are."""
  shape = spec.get("kpt_shape")
  if shape is None:
    return 0
  try:
    num, size = shape
    if type(num) is type(size) is int and num > 0 and size in (2, 3):
      return num * size
  except (TypeError, ValueError):
    pass
  raise ValueError(
    f'{file}: "kpt_shape" should be the number of keypoints and 2 or 3, as in'
    f" [17, 3], got {shape}"
  )


def _listed(root):
  """Returns the names of classes in classes.txt."""
  path = os.path.join(root, "classes.txt")
  try:
    names = text.read(path).rstrip().split("\n")
  except (OSError, ValueError) as e:
    raise ValueError(
      f"cannot read the names of classes: {root} has no data.yaml and"
      f" classes.txt is not text ({e})"
    ) from e
  return {k: name.strip() for k, name in enumerate(names) if name.strip()}


def _found(root):
  """Returns the splits that there are folders of."""
  images = os.path.join(root, "images")
  if not os.path.isdir(images):
    return {"all": "."}
  inside = sorted(
    entry.name
    for entry in os.scandir(images)
    if entry.is_dir() and not entry.name.startswith(".")
  )
  return {name: f"images/{name}" for name in inside} or {"all": "images"}


def _images(root, given):
  """Returns the images of a split, relative to the root.

  Args:
    root: str.
    given: a folder, a text file of images, or a list of those.
  """
  if isinstance(given, list):
    return [name for one in given for name in _images(root, one)]
  path = os.path.join(root, str(given))
  if not os.path.exists(path):
    # Roboflow's files are relative to a folder next to them.
    given = str(given).replace("\\", "/").removeprefix("../")
    path = os.path.join(root, lookup.find(given, root) or given)
  try:
    if path.lower().endswith(".txt"):
      found = [os.path.normpath(line) for line in text.lines(path)]
    else:
      found = folders.inside(path, folders.IMAGES)
      found = sorted(os.path.relpath(p, root) for p in found)
  except (OSError, ValueError) as e:
    raise ValueError(f"cannot read the images in {path}: {e}") from e
  if not found:
    raise ValueError(f"there is no image in {path}")
  return found


class _Images(folders.Rows):
  """The images of one split."""

  def __init__(self, root, names, images, keypoints):
    self._path, self._names, self._images = root, names, images
    self._keypoints = keypoints
    if not any(os.path.isfile(self._labels(i)) for i in range(len(images))):
      raise ValueError(
        f"none of {len(images)} images in {root} has labels; of"
        f" {images[0]} they should be in {self._labels(0)}"
      )

  def __len__(self):
    return len(self._images)

  def where(self, i):
    """Returns the path of the image of row i."""
    return os.path.join(self._path, self._image(i))

  def parts(self):
    """Returns what the rows are made of, as bytes: names of files."""
    return ["\n".join(self._images).encode()]

  def _image(self, i):
    """Returns the name of the image of row i."""
    return lookup.find(self._images[i], self._path) or self._images[i]

  def _labels(self, i):
    """Returns the path of the text file of row i."""
    stem = f"{os.sep}{os.path.splitext(self._image(i))[0]}.txt"
    start, found, end = stem.rpartition("/images/")
    name = (f"{start}/labels/{end}" if found else stem)[1:]
    return os.path.join(self._path, lookup.find(name, self._path) or name)

  def _root(self, i):
    return self._path

  def _row(self, i):
    path = self._labels(i)
    try:
      lookup.check_inside(path, self._path)
      lines = text.read(path).split("\n")
    except FileNotFoundError:
      lines = []
    except (OSError, ValueError) as e:
      raise ValueError(f"cannot read {path}: {e}") from e
    boxes, labels = [], []
    for number, line in enumerate(lines, 1):
      if words := line.split():
        try:
          labels.append(self._label(words[0]))
          boxes.append(_box(words[1:], self._keypoints))
        except ValueError as e:
          raise ValueError(f"{path}:{number}: {e}") from e
    name = self._image(i)
    row = {"image": name, "height": None, "width": None}
    row["image_id"] = os.path.splitext(name)[0]
    return {**row, "boxes": boxes, "labels": labels}

  def _label(self, word):
    number = int(word) if word.isascii() and word.isdigit() else None
    if number not in self._names:
      raise ValueError(
        f"class {word[:80]!r} is none of the {len(self._names)} there are"
      )
    return self._names[number]


def _box(words, keypoints):
  """Returns the box of four numbers, of a pose, or around a polygon."""
  num = len(words)
  is_polygon = not keypoints and num >= 6 and num % 2 == 0
  if not is_polygon and num not in (4, 4 + keypoints):
    other = "6, 8 or more of a polygon"
    if keypoints:
      other = f"{4 + keypoints} with keypoints, as data.yaml's kpt_shape says"
    raise ValueError(f"wanted 4 numbers after the class, or {other}; got {num}")
  values = folders.numbers(words, num)
  if is_polygon:
    xs, ys = values[::2], values[1::2]
    return folders.box((min(xs), min(ys), max(xs), max(ys)))
  x, y, w, h = values[:4]
  return folders.box((x - w / 2, y - h / 2, x + w / 2, y + h / 2))
