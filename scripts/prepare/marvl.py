"""MaRVL: NLVR2 in five languages, with photos from where they are spoken.

  python -m scripts.prepare.marvl --raw DIR --out data/marvl

From the MaRVL dataset (marvl-challenge.github.io), unpacked into DIR:
marvl-annotations/marvl-<language>.jsonl and
marvl-images/<language>/images/<concept>/. Splits: test_id, test_sw, test_ta,
test_tr, test_zh.
"""

from scripts.prepare import release

SITE = "from the MaRVL dataset, see marvl-challenge.github.io"
SIZES = dict(
  test_id=1128, test_sw=1108, test_ta=1242, test_tr=1180, test_zh=1012
)
FILE = "marvl-{}.jsonl"
WANT = ("concept", "language", "caption", "left_img", "right_img", "id")


def splits(raw):
  """Yields the splits of the release."""
  raw.need({FILE.format(split.split("_")[1]): SITE for split in SIZES})
  return release.splits(raw, _rows, SIZES, "examples")


def _rows(raw, split):
  language = split.split("_")[1]
  for where, q in raw.lines(FILE.format(language), (*WANT, "label")):
    if not isinstance(q["label"], bool):
      raise ValueError(f"{where}: wanted true or false, got {q['label']!r}")
    folder = f"{language}/images/{q['concept']}"
    yield {
      "image": [
        raw.image(f"{folder}/{name}", f"marvl-images/{language} {SITE}")
        for name in (q["left_img"], q["right_img"])
      ],
      "example_id": q["id"],
      **release.pick(q, "concept", "language", sentence="caption"),
      "label": str(q["label"]),
    }


if __name__ == "__main__":
  release.main(splits, __doc__)
