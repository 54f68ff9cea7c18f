"""Datasets that TensorFlow Datasets prepared, read without TensorFlow.

Needs what is in the folder of a dataset, `<name>[/<config>]/<version>`, and not
the dataset's own code:

  dataset_info.json   splits, how many rows each shard has, the file format
  features.json       how a row is stored (features.py)
  *.labels.txt        the names of a class label, one a line
  <name>-<split>.array_record-00000-of-00008    or tfrecord, or parquet

ArrayRecord is read by `tensorflow_datasets` itself (as `tfds.data_source` does,
with images left encoded), which needs no TensorFlow for it. Our own reader is
for what does: TFRecord; videos, sequences of images and other features of which
`features.tfds_reads` says so; and for Parquet, of which TFDS reads no slices.

  python -m scripts.prepare.tfds coco_captions     prepares one, as ArrayRecord
"""

import difflib
import functools
import json
import os
import pathlib
import posixpath
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

_HOME = "~/tensorflow_datasets"
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
FORMATS = {
  "tfrecord": tfrecord.Records,
  "array_record": array_record.Records,
  "parquet": functools.partial(parquet.values, column="data"),
}


class Tfds(splits.Sliced):
  """Rows of a prepared dataset.

  Images, also those of videos, stay encoded; texts are str; a sequence of dicts
  is a dict of lists, also where it is empty; a class label is an int (-1: not
  known), and the key with `_name` after it is its name, or None.
  """

  def __init__(self, name=None, split=None, data_dir=None, keys=None):
    """Finds a dataset.

    Args:
      name: str, "vqa", "vqa/config", "vqa:1.0.0"; a version that is not given
        is the highest. None where `data_dir` is the folder of the dataset.
      split: str, split syntax; None where there is only one split.
      data_dir: str, the folder that datasets are in, or its URL; None is
        $TFDS_DATA_DIR or ~/tensorflow_datasets.
      keys: list of str, what to return of each row; None is all.

    Raises:
      ValueError: no such dataset, configuration, version, split or key; a file
        is missing or broken; or a feature is of a kind that is not known.
    """
    root = data_dir or os.environ.get("TFDS_DATA_DIR") or _HOME
    where = _find(os.fspath(root), name)
    folder = _local(where)
    info = _json(folder / "dataset_info.json", "name", "splits")
    spec = _json(folder / "features.json", "featuresDict")
    kind = info.get("fileFormat", "tfrecord")
    read = config.lookup(FORMATS, kind, f"format of {where}")
    try:
      decoder = features.Decoder(spec, folder, keys)
      through_tfds = kind == "array_record" and features.tfds_reads(spec)
      stored = {s["name"]: s for s in info["splits"]}
    except (AttributeError, KeyError, TypeError) as e:
      raise ValueError(
        f"{where}: features.json or dataset_info.json is not as TensorFlow"
        f" Datasets writes it: {e!r}"
      ) from e

    def table(split):
      names, lengths = _shards(info["name"], kind, stored[split])
      paths = [os.path.join(_local(where, names), name) for name in names]
      if through_tfds:
        tfds_read = functools.partial(_Shard, split=split)
        made = shards.Table(paths, tfds_read, decoder.from_tfds)
      else:
        made = shards.Table(paths, read, decoder)
      for path, got, wanted in zip(paths, made.lengths, lengths):
        if got != wanted:
          raise ValueError(
            f"{path} has {got} records and dataset_info.json says {wanted};"
            " copy or prepare it again"
          )
      return made

    super().__init__(stored, table, split)


@functools.lru_cache(maxsize=1 << 7)  # each keeps its file open
class _Shard:
  """Rows of an ArrayRecord file as TensorFlow Datasets reads them."""

  def __init__(self, shard, split):
    folder, name = os.path.split(shard.path)
    self._len = len(array_record.Records(shard))
    if self._len:
      builder = _builder(folder)
      i = sorted(builder.info.splits[split].filenames).index(name)
      self._rows = builder.as_data_source(
        f"{split}[{i}shard:{i + 1}shard]",
        decoders=_keep_images(builder.info.features),
      )

  def __len__(self):
    return self._len

  def __getitem__(self, i):
    return self._rows[i]


@functools.lru_cache(maxsize=1 << 4)
def _builder(folder):
  import tensorflow_datasets  # only here: it takes 0.3 s

  return tensorflow_datasets.builder_from_directory(folder)


def _keep_images(feature):
  """Returns the decoders that leave images as they are."""
  import tensorflow_datasets as tfds

  if isinstance(feature, tfds.features.FeaturesDict):
    inside = {key: _keep_images(inner) for key, inner in feature.items()}
    return {key: decoder for key, decoder in inside.items() if decoder}
  if isinstance(feature, tfds.features.Image):
    return tfds.decode.SkipDecoding()
  return None


def _find(root, name):
  """Returns the folder of a dataset, a path or URL."""
  base, _, version = (name or "").partition(":")
  where = os.path.join(os.path.expanduser(root), base).rstrip("/")
  why = f"no dataset_info.json in {where}"
  if version:
    why += f" of version {version}"
  try:
    place, found = shards.listed(where, ("dataset_info.json",))
  except ValueError as e:
    place, found, why = where, (), str(e)
  folders = [posixpath.dirname(path) for path in found]
  if version:
    folders = [f for f in folders if posixpath.basename(f) == version]
  if not folders:
    raise ValueError(_missing(root, name, why))
  inside = {posixpath.dirname(f).removeprefix(place) for f in folders}
  if len(inside) > 1:
    names = ", ".join(
      sorted(posixpath.join(base, i.strip("/")) for i in inside)
    )
    raise ValueError(
      f"there are several datasets in {where}, give the name of one: {names}"
    )
  return max(folders, key=_version)


def _version(folder):
  return [int(n) for n in re.findall(r"\d+", posixpath.basename(folder))]


def _missing(root, name, why):
  """Returns what to say where a dataset was not found."""
  if not name:
    return f"there is no dataset in {root} ({why}); give the name of one"
  where = "" if root == _HOME else f" --data-dir {root}"
  return (
    f"there is no dataset {name} in {root} ({why}); prepare it with\n"
    f"  python -m scripts.prepare.tfds {name}{where}\nor give the folder of"
    f" prepared datasets as data_dir. {unknown(name)}"
  ).rstrip()


def unknown(name):
  """Returns what to say of a name that TFDS does not know, "" if it does."""
  import tensorflow_datasets as tfds

  name = re.split("[/:]", name)[0]
  known = tfds.list_builders(with_community_datasets=False)
  if name in known:
    return ""
  near = difflib.get_close_matches(name, known, n=1)
  hint = f' Did you mean "{near[0]}"?' if near else ""
  return (
    f"TensorFlow Datasets has no {name}.{hint} For a dataset of your own give"
    " the command the path of its builder (.py) in place of the name."
  )


def _local(where, names=()):
  """Returns the folder of a dataset here, a pathlib.Path.

  Args:
    where: str, path or URL, of which are downloaded: what describes it, and
    names: the files of these names.
  """
  if "://" in where:
    chosen = {*names}
    about = (".json", ".txt")
    only = lambda path: path.endswith(about) or path in chosen
    where = files.local(where, only)
  return pathlib.Path(where)


def _json(path, *keys):
  """Returns the dict in a JSON file that should have some keys."""
  try:
    made = json.loads(path.read_text(encoding="utf-8"))
    missing = [key for key in keys if key not in made]
  except (OSError, RecursionError, TypeError, ValueError) as e:
    raise ValueError(f"cannot read {path}: {e}") from e
  if missing:
    raise ValueError(
      f"{path} has no {missing[0]!r}: it is of another version of TensorFlow"
      " Datasets; prepare the dataset again, or read its files with the source"
      ' "tfrecord"'
    )
  return made


def _shards(name, kind, split):
  """Returns the files of a split and how many records each should have."""
  lengths = [int(n) for n in split.get("shardLengths", ())]
  template = split.get("filepathTemplate", _TEMPLATE)
  names = []
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
    if path.startswith("/") or ".." in path.split("/"):
      raise ValueError(f"the shard {path} is not in the dataset's folder")
    names.append(path)
  return names, lengths
