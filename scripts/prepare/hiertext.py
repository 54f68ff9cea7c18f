"""HierText: photos of Open Images with all lines of text in them.

From github.com/google-research-datasets/hiertext gt/train.jsonl.gz and
gt/validation.jsonl.gz, which may stay packed; from Open Images' bucket
(s3://open-images-dataset/ocr) train.tgz and validation.tgz, unpacked into DIR.
Splits: train, validation. Despite its name a file is one JSON object. Lines
that cannot be read are left out. A box is around the outline of a line.
"""

import numpy as np

from scripts.prepare import release

SITE = "github.com/google-research-datasets/hiertext"
SIZES = dict(train=8281, validation=1724)
FILES = {"gt/{}.jsonl": f"gt/{{}}.jsonl.gz from {SITE}"}


def _rows(raw, split):
  keep = lambda found: {k: v for k, v in found.items() if k != "words"}
  name = f"gt/{split}.jsonl"
  for photo in raw.json(name, want=("annotations",), hook=keep)["annotations"]:
    id, size = photo["image_id"], (photo["image_height"], photo["image_width"])
    lines = [
      line
      for paragraph in photo["paragraphs"]
      for line in paragraph["lines"]
      if line["legible"] and line["text"].strip()
    ]
    archive = f"{split}.tgz from s3://open-images-dataset/ocr"
    yield {
      "image": raw.image(f"{split}/{id}.jpg", archive),
      "image_id": id,
      "height": size[0],
      "width": size[1],
      "boxes": [_box(line["vertices"], size) for line in lines],
      "texts": [line["text"].strip() for line in lines],
    }


def _box(vertices, size):
  corners = np.array(vertices, float)[:, ::-1] / size
  return np.clip([*corners.min(0), *corners.max(0)], 0, 1).tolist()


splits = release.table(_rows, SIZES, "photos", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
