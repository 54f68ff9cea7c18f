"""PASCAL VOC's format: one XML file per image, and lists of their names.

  JPEGImages/000007.jpg
  Annotations/000007.xml     <annotation> <size> <width>500</width> ...
                             <object> <name>dog</name> <bndbox> <xmin>48 ...
  ImageSets/Main/train.txt   000007 on a line

(http://host.robots.ox.ac.uk/pascal/VOC/voc2012/devkit_doc.pdf.) Without these
folders, the XML files and images of one folder.
"""

import os
from xml.etree import ElementTree

from pg import limits
from pg.data.formats import folders, splits
from pg.data.storage import files, lookup, text
from pg.pp import image as image_ops


class Voc(splits.Sliced):
  """One row per image.

  Besides what folders.py says, a row has `difficult` and `truncated`, lists of
  0 and 1 as long as `boxes`.
  """

  def __init__(self, path, split=None, first_pixel=1):
    """Finds the images.

    Args:
      path: str, the folder with Annotations, such as VOCdevkit/VOC2012, or its
        URL.
      split: str, split syntax of the lists in ImageSets/Main: "train[:90%]";
        None where there are none, or only one.
      first_pixel: int, 1 as in PASCAL's own files, where a box around all of an
        image starts at 1; 0 where it starts at 0, as many tools write it.

    Raises:
      ValueError: no such folder or list, or nothing in it.
    """
    root = files.local(path)
    if not os.path.isdir(root):
      raise ValueError(f"{path} is a file: give the folder with Annotations")
    annotations = _inside(root, "Annotations")
    lists = os.path.join(root, "ImageSets", "Main")
    names = {"all": None}
    if os.path.isdir(lists):
      found = sorted(f for f in os.listdir(lists) if folders.is_one(f, ".txt"))
      names = {f[: -len(".txt")]: os.path.join(lists, f) for f in found}
    one = lambda name: _Images(
      annotations,
      _inside(root, "JPEGImages"),
      _names(annotations, names[name]),
      first_pixel,
    )
    super().__init__(names, one, split)


def _inside(root, name):
  """Returns a folder in another, or that one if it is not there."""
  path = os.path.join(root, name)
  return path if os.path.isdir(path) else root


def _names(annotations, path):
  """Returns the names in a list; None stands for all there are."""
  try:
    if path is None:
      # Without Annotations, folders in this one may be other splits.
      deep = os.path.basename(annotations) == "Annotations"
      found = folders.inside(annotations, ".xml", deep=deep)
      names = [os.path.relpath(f, annotations)[: -len(".xml")] for f in found]
    else:
      names = text.lines(path)
      # Lists of one class have a second word: -1 is an image without it.
      words = [line.rsplit(None, 1) for line in names]
      flagged = all(w[1:] in (["-1"], ["0"], ["1"]) for w in words)
      # That may be the end of names, too: "photo 1".
      if flagged and not lookup.find(f"{' '.join(names[:1])}.xml", annotations):
        names = [w[0] for w in words if w[1] != "-1"]
  except (OSError, ValueError) as e:
    raise ValueError(f"cannot read {path or annotations}: {e}") from e
  if not names:
    raise ValueError(f"there is no image in {path or annotations}")
  return names


def _parsed(path):
  """Returns the root of an XML file."""
  data = limits.read(path)
  try:
    return ElementTree.fromstring(data)
  except (ElementTree.ParseError, ValueError):
    # .NET says utf-16 in UTF-8; others say utf-8 in UTF-16.
    return ElementTree.fromstring(text.decode(data))


class _Images(folders.Rows):
  """The images of one list."""

  def __init__(self, annotations, images, names, first_pixel):
    self._annotations, self._images = annotations, images
    self._names, self._first_pixel = names, first_pixel

  def __len__(self):
    return len(self._names)

  def where(self, i):
    """Returns the path of the XML file of row i."""
    name = f"{self._names[i]}.xml"
    found = lookup.find(name, self._annotations)
    return os.path.join(self._annotations, found or name)

  def parts(self):
    """Returns what the rows are made of, as bytes: names of files."""
    return ["\n".join(self._names).encode()]

  def _stem(self, i):
    """Returns the name of row i without .xml, as it is here."""
    path = os.path.relpath(self.where(i), self._annotations)
    return os.path.splitext(path)[0]

  def _root(self, i):
    return self._images

  def _row(self, i):
    try:
      lookup.check_inside(self.where(i), self._annotations)
      tree = _parsed(self.where(i))
    except (ElementTree.ParseError, LookupError, ValueError) as e:
      raise ValueError(f"is not XML: {e}") from e
    name = self._image(i, tree)
    size = [
      folders.positive(tree.findtext(f"size/{key}"))
      for key in ("height", "width")
    ]
    if None in size:  # some tools write 0
      size = image_ops.sizes(self._read(name, self._images))[1]
    objects = [
      self._object(number, o, *size)
      for number, o in enumerate(tree.findall("object"))
    ]
    row = {"image": name, "image_id": self._stem(i)}
    row["height"], row["width"] = size
    for k, key in enumerate(("boxes", "labels", "difficult", "truncated")):
      row[key] = [o[k] for o in objects]
    return row

  def _image(self, i, tree):
    """Returns the name of the image of row i."""
    names = [self._stem(i) + end for end in folders.IMAGES]
    for name in names:
      if os.path.isfile(os.path.join(self._images, name)):
        return name
    # `filename` is often a name that the image once had.
    said = (tree.findtext("filename") or "").strip()
    found = (lookup.find(name, self._images) for name in (*names, said))
    return next(filter(None, found), said or names[0])

  def _object(self, number, o, height, width):
    """Returns box, label, difficult and truncated."""
    label = (o.findtext("name") or "").strip()
    if not label:
      raise ValueError(f"object {number} has no name")
    corners = [o.findtext(f"bndbox/{k}") for k in ("xmin", "ymin")]
    corners += [o.findtext(f"bndbox/{k}") for k in ("xmax", "ymax")]
    try:
      x1, y1, x2, y2 = folders.numbers(corners, 4)
      # Pixel 1 is from 0 to 1, and both the first and the last are in the box.
      x1, y1 = x1 - self._first_pixel, y1 - self._first_pixel
      box = folders.box((x1, y1, x2, y2), width, height, slack=1)
    except ValueError as e:
      raise ValueError(f"object {number} ({label}): {e}") from e
    flags = [o.findtext(key) for key in ("difficult", "truncated")]
    return box, label, *(int((flag or "").strip() == "1") for flag in flags)
