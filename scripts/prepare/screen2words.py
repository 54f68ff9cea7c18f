"""Screen2Words: what a screen of an app is for, in a few words; five of each.

From github.com/google-research-datasets/screen2words: screen_summaries.csv and
split/; from interactionmining.org, unpacked into DIR: unique_uis.tar.gz of
RICO. Splits: train, dev, test.
"""

from scripts.prepare import release

SUMMARIES = "screen_summaries.csv"
SITE = "github.com/google-research-datasets/screen2words"
RICO = "unique_uis.tar.gz of RICO from interactionmining.org"
SIZES = dict(train=15743, dev=2364, test=4310)
LIST = "split/{}_screens.txt"
FILES = {SUMMARIES: SITE, LIST: SITE}


def _rows(raw, split):
  said = raw.csv(SUMMARIES, want=("screenId", "summary"))
  said = release.grouped((row["screenId"], row["summary"]) for row in said)
  file = LIST.format(split)
  for id in filter(None, map(str.strip, raw.text_lines(file))):
    lacks = f"screen {id} of {file} is not"
    yield {
      "image": raw.image(f"combined/{id}.jpg", RICO),
      "image/id": int(id),
      "image/filename": f"{id}.jpg",
      "summary": release.match(said, id, lacks, SUMMARIES),
    }


splits = release.table(_rows, SIZES, "screens", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
