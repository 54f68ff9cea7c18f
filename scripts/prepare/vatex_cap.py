"""VATEX: clips of ten seconds, ten English captions each.

  python -m scripts.prepare.vatex_cap --raw DIR --out data/vatex_cap

From eric-xw.github.io/vatex-website, in DIR: vatex_training_v1.0.json,
vatex_validation_v1.0.json, vatex_public_test_english_v1.1.json and, for the
test server, vatex_private_test_without_annotations.json; the clips as
<videoID>.mp4. Splits: train, val, test (the public one; that PaliGemma was
scored on it is by its size) and, where its file is there, private. Of these
PaliGemma had 22,315, 2,584 and 5,135 clips. --verify leaves out broken ones.
"""

from scripts.prepare import clips, release

FILES = dict(
  train="vatex_training_v1.0.json",
  val="vatex_validation_v1.0.json",
  test="vatex_public_test_english_v1.1.json",
)
PRIVATE = "vatex_private_test_without_annotations.json"
SIZES = dict(train=25991, val=3000, test=6000)
SITE = "from eric-xw.github.io/vatex-website"


def splits(raw, verify=False):
  """Yields the splits of the release."""
  raw.need({name: f"{name} {SITE}" for name in FILES.values()})
  sizes = SIZES | (dict(private=6278) if raw.find(PRIVATE) else {})
  yield from clips.splits(raw, _rows, sizes, "clips", verify)


def _rows(raw, split):
  answered = split in FILES
  want = ("videoID", "enCap") if answered else ("videoID",)
  for item in raw.json(FILES.get(split, PRIVATE), want=want):
    id = item["videoID"]
    row = {
      "video": clips.find(raw, id, "clips of VATEX from YouTube"),
      "videoID": id,
    }
    if answered:
      row["captions"] = [caption.strip() for caption in item["enCap"]]
    yield row


if __name__ == "__main__":
  release.main(splits, __doc__, verify=clips.VERIFY)
