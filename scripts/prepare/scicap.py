"""SciCap: figures of papers on arXiv; the list First-Sentence, No-Subfig.

From the link in github.com/tingyaohsu/SciCap, unpacked into DIR:
scicap_data.zip (18 GB). Splits: train, val, test.
"""

from scripts.prepare import release

ARCHIVE = "scicap_data.zip, linked in github.com/tingyaohsu/SciCap"
LIST = "List-of-Files-for-Each-Experiments/First-Sentence/No-Subfig/{}"
TOKENS = "1-lowercase-and-token-and-remove-figure-index"
NORMAL = "2-normalized"
WANT = ("0-originally-extracted", TOKENS, NORMAL)
SIZES = dict(train=106834, val=13354, test=13355)


def splits(raw):
  """Yields the splits of the release."""
  # The archive and its description don't agree on how folders are spelled.
  spelled = {
    split: split.title() if raw.find(LIST.format(split.title())) else split
    for split in SIZES
  }
  raw.need(
    {f"{LIST.format(s)}/file_idx.json": ARCHIVE for s in spelled.values()}
  )
  sizes = {split: (num, spelled[split]) for split, num in SIZES.items()}
  return release.splits(raw, _rows, sizes, "figures")


def _rows(raw, _, folder):
  for name in raw.json(f"{LIST.format(folder)}/file_idx.json"):
    figure = name.removesuffix(".png")
    said = raw.json(f"SciCap-Caption-All/{folder}/{figure}.json", want=WANT)
    numbers, equations = (
      said[NORMAL][key]["caption"]
      for key in ("2-1-basic-num", "2-2-advanced-euqation-bracket")
    )
    yield {
      "image": raw.image(f"SciCap-No-Subfig-Img/{folder}/{name}", ARCHIVE),
      "image/id": figure,
      "image/filename": name,
      "caption/originally_extracted": said["0-originally-extracted"],
      "caption/lowercase_and_token_and_remove_figure_index": said[TOKENS][
        "caption"
      ],
      "caption/normalized/basic_num": numbers,
      "caption/normalized/advanced_equation_bracket": equations,
    }


if __name__ == "__main__":
  release.main(splits, __doc__)
