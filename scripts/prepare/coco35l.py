"""COCO-35L: captions of COCO, translated from English into 34 languages.

From google.github.io/crossmodal-3600: coco_mt_train.jsonl.bz2 and
coco_mt_dev.jsonl.bz2, which may stay packed; from Karpathy's page at Stanford
(deepimagesent) caption_datasets.zip; from cocodataset.org, unpacked into DIR,
train2014.zip and val2014.zip. Splits: train_ar, dev_ar and so on in 35
languages. While it runs, captions lie in nameless files in the folder for
temporary ones (TMPDIR), some 2 GB.
"""

import functools
import json
import tempfile

from scripts.prepare import cococap, release
from transfers import coco35l as transfer

SITE = "from google.github.io/crossmodal-3600"
WANT = ("image_id", "trg_lang", "caption_tokenized", "translation_tokenized")
SIZES = {
  f"{part}_{language}": (num, part, language)
  for part, num in dict(train=113287, dev=5000).items()
  for language in transfer.LANGUAGES
}
FILES = {
  "coco_mt_{1}.jsonl": "coco_mt_{1}.jsonl.bz2 " + SITE,
  cococap.KARPATHY: cococap.ARCHIVE,
}


@functools.cache  # for all languages
def _photos(raw):
  return {photo["cocoid"]: photo for photo in cococap.photos(raw)}


@functools.cache
def _sort(raw, part):
  """Returns {language: file with lines of a photo and a caption}.

  The release has all languages in one file of up to 19 million lines. English
  is what German was translated from: it has no lines of its own.
  """
  sorted_ = {
    language: tempfile.TemporaryFile("w+", encoding="utf-8")
    for language in transfer.LANGUAGES
  }
  for _, row in raw.lines(f"coco_mt_{part}.jsonl", WANT):
    captions = {row["trg_lang"]: row["translation_tokenized"]}
    if "de" in captions:
      captions["en"] = row["caption_tokenized"]
    for language in captions.keys() & sorted_.keys():
      line = json.dumps([row["image_id"], captions[language]])
      sorted_[language].write(line + "\n")
  return sorted_


def _rows(raw, _, part, language):
  file = _sort(raw, part)[language]
  file.seek(0)
  said = map(json.loads, file)
  of_photo = release.grouped((name.split("_")[0], text) for name, text in said)
  for id, texts in of_photo.items():
    number = int(id) if id.isdecimal() else id
    lacks = f"photo {id!r} is not"
    photo = release.match(_photos(raw), number, lacks, cococap.KARPATHY)
    yield {
      "image": cococap.image(raw, photo),
      "image/id": f"{id}_{language}",
      "captions": texts,
      "language": language,
    }


splits = release.table(_rows, SIZES, "photos", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
