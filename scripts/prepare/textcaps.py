"""TextCaps: captions of photos that say what is written in them.

From textvqa.org/textcaps: TextCaps_0.1_{train,val,test}.json; unpacked into
DIR: train_val_images.zip and test_images.zip. Splits: train, val, test
(without captions).
"""

from scripts.prepare import release

CAPTIONS = "TextCaps_0.1_{}.json"
SITE = "from textvqa.org"
KEYS = ("data", "image_id", "image_name", "caption_str")
SIZES = dict(
  train=(21953, "train_images", "train_val_images.zip"),
  val=(3166, "train_images", "train_val_images.zip"),
  test=(3289, "test_images", "test_images.zip"),
)
FILES = {CAPTIONS: f"{CAPTIONS} {SITE}"}


def _rows(raw, split, folder, archive):
  keep = lambda found: {key: found[key] for key in KEYS if key in found}
  data = raw.json(CAPTIONS.format(split), want=("data",), hook=keep)["data"]
  of_photo = release.grouped((row["image_id"], row) for row in data)
  for id, said in of_photo.items():
    path = f"{folder}/{said[-1]['image_name']}.jpg"
    row = {"image": raw.image(path, f"{archive} {SITE}"), "image/id": id}
    if split != "test":
      row["texts"] = [one["caption_str"] for one in said]
    yield row


splits = release.table(_rows, SIZES, "photos", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
