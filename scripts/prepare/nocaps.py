"""nocaps: photos of things that COCO has no captions of; ten captions each.

From nocaps.org: nocaps_val_4500_captions.json, nocaps_test_image_info.json;
from Open Images, unpacked into DIR: validation.tar.gz and test.tar.gz. Splits:
val, test (without captions).
"""

from scripts.prepare import release

SIZES = dict(
  val=(4500, "nocaps_val_4500_captions.json", "validation"),
  test=(10600, "nocaps_test_image_info.json", "test"),
)
FILES = {"{1}": "{1} from nocaps.org"}


def _rows(raw, split, file, folder):
  captioned = split == "val"
  found = raw.json(file, want=("images",) + ("annotations",) * captioned)
  said = found["annotations"] if captioned else ()
  texts = release.grouped((a["image_id"], a["caption"]) for a in said)
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


splits = release.table(_rows, SIZES, "photos", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
