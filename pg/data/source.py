"""Where examples come from: random access to rows by index.

A source has `len(source)` and `source[i]` -> dict, and may have
`source.where(i)` -> str, a name of the row for messages, and `source.parts()`,
the paths and bytes that rows are made of (fingerprint.py). A row has "image"
(encoded bytes, or u8[height, width, 3], or a list of those), "prefix" and
"suffix" (or what the config's pp makes them from), and whatever else the data
has. A config names a source by its key in SOURCES and gives it keyword
arguments.
"""

from pg.data.formats import (
  array_record,
  coco,
  jsonl,
  parquet,
  prepared,
  rows,
  tfds,
  tfrecord,
  voc,
  yolo,
)
from pg.data.synthetic import digits, hand, shapes

# name in a config's data spec -> class, or a function that opens one
SOURCES = {
  "array_record": array_record.ArrayRecord,
  "coco": coco.Coco,
  "digits": digits.Digits,
  "hand": hand.Hand,
  "jsonl": jsonl.Jsonl,
  "parquet": parquet.Parquet,
  "prepared": prepared.find,
  "shapes": shapes.Shapes,
  "tfds": tfds.Tfds,
  "tfrecord": tfrecord.TfRecord,
  "voc": voc.Voc,
  "yolo": yolo.Yolo,
}


def images(source, i):
  """Returns "photos/7.jpg: " for row i; nothing for images within the data.

  Of an image at a URL it says in which file of the cache it is.
  """
  found = getattr(source, "image_ref", lambda i: None)(i)
  names = [x for x in (found if isinstance(found, list) else [found]) if x]
  return f"{', '.join(map(rows.kept, names))}: " if names else ""


class Numbered:
  """A source whose rows are named by their numbers: it has no `where`."""

  def __init__(self, source, name):
    self._source, self._name = source, name

  def __len__(self):
    return len(self._source)

  def __getitem__(self, i):
    return self._source[i]

  def where(self, i):
    return f"{self._name}:{i}"
