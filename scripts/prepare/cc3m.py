"""Conceptual Captions: photos of the web with the text that describes them.

From huggingface.co/datasets/pixparse/cc3m-wds, into DIR: cc3m-train-*.tar and
cc3m-validation-*.tar, which stay packed. Splits: train, validation. A member of
a tar file is KEY.jpg, KEY.txt (the caption) or KEY.json, those of a key beside
each other. How many photos there are is not stated here: what could be
downloaded when the files were made, some 2.9 million and 13,400.
"""

import tarfile

from scripts.prepare import release

SITE = "huggingface.co/datasets/pixparse/cc3m-wds"
SPLITS = ("train", "validation")


def splits(raw):
  """Yields the Split of each name in SPLITS."""
  for split in SPLITS:
    yield release.Split(split, lambda split=split: _rows(raw, split), None)


def _rows(raw, split):
  name = f"cc3m-{split}-*.tar"
  for path in raw.shards(name, f"{name} from {SITE}"):
    found = {}  # of one key
    try:
      with tarfile.open(path) as tar:
        for member in filter(tarfile.TarInfo.isfile, tar):
          key, _, kind = member.name.partition(".")
          if found.get("key") != key:
            found = {"key": key}
          found[kind] = member.name
          if kind == "txt":
            found[kind] = tar.extractfile(member).read().decode().strip()
          if "jpg" in found and "txt" in found:
            yield {
              "image": f"{path}/{found.pop('jpg')}",
              "image_id": key,
              "caption": found.pop("txt"),
            }
    except (tarfile.TarError, UnicodeDecodeError) as e:
      raise ValueError(f"{path} is damaged ({e}); get it again") from e


if __name__ == "__main__":
  release.main(splits, __doc__)
