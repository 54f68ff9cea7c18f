"""XM3600 (Crossmodal-3600): 3,600 photos, captions in 36 languages.

From google.github.io/crossmodal-3600: captions.zip, and images.tgz unpacked
into DIR/images. Splits: ar, bn, cs and so on.
"""

import functools

from scripts.prepare import release
from transfers import coco35l as transfer

CAPTIONS = "captions.jsonl"
SITE = "from google.github.io/crossmodal-3600"
FILES = {CAPTIONS: f"captions.zip {SITE}"}


@functools.cache  # for all languages
def _photos(raw):
  return list(raw.lines(CAPTIONS, ("image/key",)))


def _rows(raw, language):
  for where, photo in _photos(raw):
    key, captions = photo["image/key"], photo.get(language, {})
    gone = {"caption", "caption/tokenized"} - captions.keys()
    if gone:
      raise ValueError(
        f"{where}: {language} has no {', '.join(sorted(gone))}, only"
        f" {', '.join(captions) or 'nothing'}"
      )
    yield {
      "image": raw.image(f"images/{key}.jpg", f"images.tgz {SITE}"),
      "image/id": f"{key}_{language}",
      "captions": captions["caption"],
      "captions/tokenized": captions["caption/tokenized"],
      "language": language,
    }


splits = release.table(
  _rows, dict.fromkeys(transfer.XM3600, 3600), "photos", FILES
)

if __name__ == "__main__":
  release.main(splits, __doc__)
