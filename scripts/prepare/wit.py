"""Wikipedia's images with the captions that they have in many languages.

From huggingface.co/datasets/wikimedia/wit_base, into DIR: the files
train-*-of-00330.parquet, all or some of them, 0.9 GB each. One split: train. Of
each image the captions beside it on Wikipedia's pages, one for a language;
those whose language was found to be another are left out. Images are 300 pixels
wide. As ArrayRecord (--format array_record) it is a quarter smaller. How the
captions lie in `wit_features` is not confirmed.
"""

import re

from pg.data.formats import parquet
from scripts.prepare import release

SITE = "huggingface.co/datasets/wikimedia/wit_base"
NAME = "train-*.parquet"
KEYS = ("image", "image_url", "wit_features")
CAPTION, CHECKED = "caption_reference_description", "attribution_passes_lang_id"


def splits(raw):
  """Yields the only Split."""
  yield release.Split("train", lambda: _rows(raw), None, "images")


def _rows(raw):
  for path in raw.shards(NAME, f"{NAME} from {SITE}"):
    try:
      source = parquet.Parquet(path, keys=KEYS)
    except ValueError as e:
      raise ValueError(f"{path}: {e}; it is of another version") from e
    for i in range(len(source)):
      row = source[i]
      found = dict(_captions(row["wit_features"]))
      if found:
        yield {
          "image": row["image"],
          "image_id": row["image_url"],
          "languages": list(found),
          "captions": list(found.values()),
        }


def _captions(features):
  """Yields (language, caption) of a dict of lists, one item for a page."""
  columns = (features[key] for key in ("language", CAPTION, CHECKED))
  for language, caption, checked in zip(*columns, strict=True):
    caption = re.sub(r"\s+", " ", caption or "").strip()
    if language and caption and checked is not False:
      yield language, caption


if __name__ == "__main__":
  release.main(splits, __doc__)
