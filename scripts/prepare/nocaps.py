"""nocaps: photos of things that COCO has no captions of; ten captions each.

  python -m scripts.prepare.nocaps --raw DIR --out data/nocaps

From nocaps.org: nocaps_val_4500_captions.json, nocaps_test_image_info.json;
from Open Images, unpacked into DIR: validation.tar.gz and test.tar.gz. Splits:
val, test (without captions).
"""

import functools

from scripts.prepare import release

SPLITS = (
  ("val", "nocaps_val_4500_captions.json", "validation", 4500),
  ("test", "nocaps_test_image_info.json", "test", 10600),
)


def splits(raw):
  """Yields the splits of the release."""
  raw.need({file: f"{file} from nocaps.org" for _, file, _, _ in SPLITS})
  for split, file, folder, num in SPLITS:
    rows = functools.partial(_rows, raw, file, folder, captioned=split == "val")
    yield release.Split(split, rows, num, "photos")


def _rows(raw, file, folder, captioned):
  want = ("images",) + ("annotations",) * captioned
  found = raw.json(file, want=want)
  texts = {}
  for a in found["annotations"] if captioned else ():
    texts.setdefault(a["image_id"], []).append(a["caption"])
  for photo in found["images"]:
    id = photo["id"]
    row = {
      "image": raw.image(
        f"{folder}/{photo['file_name']}",
        f"{folder}.tar.gz from the page of Open Images",
      ),
      "image/id": id,
    }
    if captioned and id not in texts:
      raise ValueError(f"photo {id} of {file} has no captions in it")
    yield row | {"texts": texts[id]} if captioned else row


if __name__ == "__main__":
  release.main(splits, __doc__)
