"""MaRVL: NLVR2 in five languages, with photos from where they are spoken.

From the MaRVL dataset (marvl-challenge.github.io), unpacked into DIR:
marvl-annotations/marvl-<language>.jsonl and
marvl-images/<language>/images/<concept>/. Splits: test_id, test_sw, test_ta,
test_tr, test_zh.
"""

from scripts.prepare import release

SITE = "from the MaRVL dataset, see marvl-challenge.github.io"
NUM = dict(id=1128, sw=1108, ta=1242, tr=1180, zh=1012)
SIZES = {f"test_{language}": (n, language) for language, n in NUM.items()}
WANT = ("concept", "language", "caption", "left_img", "right_img", "id")
FILES = {"marvl-{1}.jsonl": SITE}


def _rows(raw, _, language):
  for where, q in raw.lines(f"marvl-{language}.jsonl", (*WANT, "label")):
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


splits = release.table(_rows, SIZES, "examples", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
