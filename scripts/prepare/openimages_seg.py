"""Open Images: photos with the outlines of objects of 350 classes.

From the download page of Open Images V7, into DIR: {train,validation,test}
-annotations-object-segmentation.csv, oidv7-class-descriptions-boxable.csv, the
masks ({split}-masks-0.zip to -f.zip) unpacked as train-masks/ and so on, and
the photos as for openimages.py. Splits are these. A mask becomes run lengths.
The columns were read in programs of others.
"""

from pg.pp import masks
from scripts.prepare import openimages, release

OUTLINES = "{}-annotations-object-segmentation.csv"
SIZES = dict(train=None, validation=None, test=None)
NAMES = (OUTLINES, openimages.CLASSES)
FILES = {name: f"{name} {openimages.SITE}" for name in NAMES}
CORNERS = ("BoxYMin", "BoxXMin", "BoxYMax", "BoxXMax")
WANT = ("MaskPath", "ImageID", "LabelName", *CORNERS)


def _rows(raw, split):
  called = openimages.names(raw)
  rows = raw.csv(OUTLINES.format(split), WANT)
  keep = lambda row: release.pick(row, *WANT[:1], *WANT[2:])
  of_photo = release.grouped((row["ImageID"], keep(row)) for row in rows)
  for id, rows in of_photo.items():
    archive = f"{split}-masks-0.zip to -f.zip {openimages.SITE}"
    paths = [raw.image(f"{split}-masks/{r['MaskPath']}", archive) for r in rows]
    photo = openimages.image(raw, split, id)
    if not raw.absent.isdisjoint(paths):
      yield {"image": [photo, *paths]}  # counted as one that is not there
      continue
    yield {
      "image": photo,
      "image_id": id,
      "boxes": [[float(r[key]) for key in CORNERS] for r in rows],
      "labels": [called[r["LabelName"]] for r in rows],
      "masks": [_outline(path) for path in paths],
    }


def _outline(path):
  with open(path, "rb") as f:
    try:
      found = masks.to_run_lengths(masks.mask_of(f.read(), {}))
    except ValueError as e:
      raise ValueError(f"{path}: {e}") from e
  return {k: [int(n) for n in v] for k, v in found.items()}


splits = release.table(_rows, SIZES, "photos", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
