"""Open Images: photos with boxes of 600 classes, and what is not in them.

From the download page of Open Images V7, into DIR: {train,validation,test}
-annotations-bbox.csv (of train it is oidv6-train-annotations-bbox.csv),
{split}-annotations-human-imagelabels-boxable.csv and
oidv7-class-descriptions-boxable.csv; the photos with boxes (CVDF's archives
train_0.tar.gz and so on) unpacked as train/, validation/ and test/. Splits are
these. `absent` are classes that people looked for and did not find; `iscrowd`
is IsGroupOf, and `groups` is how many of the boxes are. What people verified of
train takes about 2 GB of memory. The columns of boxes were read in programs of
others; those of the file of labels are not confirmed.
"""

import itertools
import operator

from scripts.prepare import release

SITE = "from storage.googleapis.com/openimages/web/download_v7.html"
BOXES = "{}-annotations-bbox.csv"
SIZES = dict(
  train=(None, "oidv6-" + BOXES.format("train")),
  validation=(None, BOXES.format("validation")),
  test=(None, BOXES.format("test")),
)
CLASSES = "oidv7-class-descriptions-boxable.csv"
LABELS = "{}-annotations-human-imagelabels-boxable.csv"
FILES = {name: f"{name} {SITE}" for name in ("{1}", LABELS, CLASSES)}
CORNERS = ("YMin", "XMin", "YMax", "XMax")


def names(raw):
  """Returns {label: what it is called, in small letters}."""
  rows = raw.csv(CLASSES, want=("LabelName", "DisplayName"))
  return {row["LabelName"]: row["DisplayName"].lower() for row in rows}


def image(raw, split, id):
  """Returns the path of a photo."""
  return raw.image(f"{split}/{id}.jpg", f"{split} images {SITE}")


def _rows(raw, split, file):
  called, absent = names(raw), {}
  want = ("ImageID", "LabelName", "Confidence")
  for row in raw.csv(LABELS.format(split), want):
    if float(row["Confidence"]) == 0:
      name = called[row["LabelName"]]
      absent.setdefault(row["ImageID"], []).append(name)
  want = ("ImageID", "LabelName", "IsGroupOf", *CORNERS)
  done, id_of = set(), operator.itemgetter("ImageID")
  for id, rows in itertools.groupby(raw.csv(file, want), id_of):
    if id in done:
      raise ValueError(f"{file}: boxes of {id} are at two places; sort it")
    done.add(id)
    rows = list(rows)
    crowds = [int(row["IsGroupOf"] == "1") for row in rows]
    yield {
      "image": image(raw, split, id),
      "image_id": id,
      "boxes": [[float(row[key]) for key in CORNERS] for row in rows],
      "labels": [called[row["LabelName"]] for row in rows],
      "iscrowd": crowds,
      "groups": sum(crowds),
      "absent": absent.get(id, []),
    }


splits = release.table(_rows, SIZES, "photos", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
