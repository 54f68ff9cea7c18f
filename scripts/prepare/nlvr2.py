"""NLVR2: is a sentence true of two photos?

From github.com/lil-lab/nlvr, nlvr2/data: train.json, dev.json and test1.json;
their photos after a form, or from their URLs: train/<directory>/, dev/, test1/.
Splits: train, dev, test (the public one, test1). About one in twenty URLs is
dead: without those photos --allow_incomplete leaves their rows out.
"""

from scripts.prepare import release

SIZES = dict(train=(86373, "train"), dev=(6982, "dev"), test=(6967, "test1"))
WANT = ("identifier", "sentence", "label")
FILES = {"{1}.json": "nlvr2/data of github.com/lil-lab/nlvr"}


def _rows(raw, split, file):
  more = ("directory",) * (split == "train")
  for where, q in raw.lines(f"{file}.json", WANT + more):
    if q["label"] not in ("True", "False"):
      raise ValueError(f'{where}: wanted "True" or "False", got {q["label"]!r}')
    stem, _, sentence = q["identifier"].rpartition("-")
    folder = f"train/{q['directory']}" if split == "train" else file
    yield {
      "image": [
        raw.image(f"{folder}/{stem}-img{i}.png", f"the photos of NLVR2, {file}")
        for i in (0, 1)
      ],
      "example_id": q["identifier"],
      # A sentence is asked about several pairs of photos.
      "pair": f"{stem.rpartition('-')[0]}-{sentence}",
      **release.pick(q, "sentence", "label"),
    }


splits = release.table(_rows, SIZES, "examples", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
