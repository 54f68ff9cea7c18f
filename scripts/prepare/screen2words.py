"""Screen2Words: what a screen of an app is for, in a few words; five of each.

  python -m scripts.prepare.screen2words --raw DIR --out data/screen2words

From github.com/google-research-datasets/screen2words: screen_summaries.csv and
split/; from interactionmining.org, unpacked into DIR: unique_uis.tar.gz of
RICO. Splits: train, dev, test.
"""

import functools

from scripts.prepare import release

SUMMARIES = "screen_summaries.csv"
SITE = "github.com/google-research-datasets/screen2words"
RICO = "unique_uis.tar.gz of RICO from interactionmining.org"
SPLITS = (("train", 15743), ("dev", 2364), ("test", 4310))


def splits(raw):
  """Yields the splits of the release."""
  lists = {split: f"split/{split}_screens.txt" for split, _ in SPLITS}
  raw.need(dict.fromkeys([SUMMARIES, *lists.values()], SITE))
  summaries = functools.cache(lambda: _summaries(raw))
  for split, num in SPLITS:
    rows = functools.partial(_rows, raw, lists[split], summaries)
    yield release.Split(split, rows, num, "screens")


def _summaries(raw):
  """Returns {screen: what people said of it}."""
  found = {}
  for row in raw.csv(SUMMARIES, want=("screenId", "summary")):
    found.setdefault(row["screenId"], []).append(row["summary"])
  return found


def _rows(raw, file, summaries):
  for id in filter(None, map(str.strip, raw.text_lines(file))):
    if id not in summaries():
      raise ValueError(f"screen {id} of {file} is not in {SUMMARIES}")
    yield {
      "image": raw.image(f"combined/{id}.jpg", RICO),
      "image/id": int(id),
      "image/filename": f"{id}.jpg",
      "summary": summaries()[id],
    }


if __name__ == "__main__":
  release.main(splits, __doc__)
