"""Datasets that TensorFlow Datasets prepared, read without TensorFlow.

Reads what is in the folder of a dataset, `<name>[/<config>]/<version>`:

  dataset_info.json   splits, how many rows each shard has, the file format
  features.json       how a row is stored (features.py)
  *.labels.txt        the names of a class label, one a line
  <name>-<split>.tfrecord-00000-of-00008    or array_record, or parquet

so that the dataset's own code is not needed. `tensorflow_datasets` itself reads
no TFRecord files without TensorFlow, and has no videos without it.
"""

import functools
import json
import os
import pathlib
import re

from pg import config
from pg.data.formats import (
  array_record,
  features,
  parquet,
  shards,
  splits,
  tfrecord,
)
from pg.data.storage import files

FORMATS = {
  "tfrecord": tfrecord.records,
  "array_record": array_record.records,
  "parquet": functools.partial(parquet.values, column="data"),
}
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


class Tfds(splits.Sliced):
  """Rows of a prepared dataset.

  Images, also those of videos, stay encoded; texts are str; a sequence of dicts
  is a dict of lists, also where it is empty; a class label is an int (-1: not
  known), and the key with `_name` after it is its name, or None.
  """

  def __init__(
    self, name=None, split=None, data_dir=None, keys=None, verify=True
  ):
    """Finds a dataset.

    Args:
      name: str, "vqa", "vqa/config", "vqa:1.0.0"; a version that is not given
        is the highest. None where `data_dir` is the folder of the dataset.
      split: str, split syntax; None where there is only one split.
      data_dir: str, the folder that datasets are in, or its URL; None is
        $TFDS_DATA_DIR or ~/tensorflow_datasets.
      keys: list of str, what to return of each row; None is all.
      verify: bool, whether to compare the checksums of TFRecord files.

    Raises:
      ValueError: no such dataset, configuration, version, split or key; a file
        is missing or broken; or a feature is of a kind that is not known.
    """
    root = data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    folder = _folder(os.path.expanduser(root), name)
    info = _json(folder / "dataset_info.json", "name", "splits")
    spec = _json(folder / "features.json", "featuresDict")
    kind = info.get("fileFormat", "tfrecord")
    read = config.lookup(FORMATS, kind, f"format of {folder}")
    if kind == "tfrecord":
      read = functools.partial(read, verify=verify)
    try:
      decode = features.Decoder(spec, folder, keys)
      stored = {s["name"]: s for s in info["splits"]}
    except (AttributeError, KeyError, TypeError) as e:
      raise ValueError(
        f"{folder}: features.json or dataset_info.json is not as TensorFlow"
        f" Datasets writes it: {e!r}"
      ) from e

    def table(split):
      names, lengths = _shards(folder, info["name"], kind, stored[split])
      made = shards.Table(names, read, decode)
      for path, got, wanted in zip(names, made.lengths, lengths):
        if got != wanted:
          raise ValueError(
            f"{path} has {got} records and dataset_info.json says {wanted};"
            " copy or prepare it again"
          )
      return made

    super().__init__(stored, table, split)


def _folder(root, name):
  """Returns the folder of a dataset, a pathlib.Path."""
  base, _, version = (name or "").partition(":")
  where = os.path.join(root, base) if base else root
  if "://" in where:
    where = files.local(where)
  found = [p.parent for p in pathlib.Path(where).rglob("dataset_info.json")]
  if version:
    found = [p for p in found if p.name == version]
  if not found:
    raise ValueError(
      f"there is no dataset {name or ''} in {root} (no dataset_info.json in"
      f" {where}{' of version ' + version if version else ''}); give the"
      " folder of prepared datasets as data_dir"
    )
  inside = {os.path.relpath(p.parent, where) for p in found}
  if len(inside) > 1:
    names = sorted(os.path.join(base, path) for path in inside)
    raise ValueError(
      f"there are several datasets in {where}, give the name of one:"
      f" {', '.join(names)}"
    )
  return max(found, key=lambda p: [int(n) for n in re.findall(r"\d+", p.name)])


def _json(path, *keys):
  """Returns the dict in a JSON file that should have some keys."""
  try:
    made = json.loads(path.read_text(encoding="utf-8"))
    missing = [key for key in keys if key not in made]
  except (OSError, TypeError, ValueError) as e:
    raise ValueError(f"cannot read {path}: {e}") from e
  if missing:
    raise ValueError(
      f"{path} has no {missing[0]!r}: it is of another version of TensorFlow"
      " Datasets; prepare the dataset again, or read its files with the source"
      ' "tfrecord"'
    )
  return made


def _shards(folder, name, kind, split):
  """Returns the files of a split and how many records each should have."""
  lengths = [int(n) for n in split.get("shardLengths", ())]
  template = split.get("filepathTemplate", _TEMPLATE)
  paths = []
  for i in range(len(lengths)):
    number, num = f"{i:05}", f"{len(lengths):05}"
    words = {
      "DATASET": name,
      "SPLIT": split["name"],
      "FILEFORMAT": kind,
      "SHARD_INDEX": number,
      "NUM_SHARDS": num,
      "SHARD_X_OF_Y": f"{number}-of-{num}",
    }
    path = template
    for word, value in words.items():
      path = path.replace(f"{{{word}}}", value)
    paths.append(os.path.join(folder, path))
  return paths, lengths
