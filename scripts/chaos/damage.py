"""Damage to files that hold arrays: checkpoints and weights."""

import contextlib
import json
import os
import pathlib
import shutil
import warnings

import jax
import numpy as np

from pg import convert
from pg.codecs import tokenizer
from pg.weights import folders, load, opened, saver, tensors
from scripts import chaos
from scripts.chaos import run

COMMIT = "commit_success.txt"
TEXT = "caption en a red circle <loc0001>"
# Formats without checksums, in which another value looks as good.
_UNCHECKED = (".safetensors", ".model", ".json", ".npy")


def checkpoints(lab, tries, seed):
  """A flipped bit, a cut or missing file in the newest of two checkpoints."""
  row = chaos.Row("checkpoint")
  source = pathlib.Path(lab.whole)
  older, newer = folders.steps(source / "checkpoints")
  good, _ = run.restored(source)
  alone = lab.folder / "alone"  # the older one, to compare with
  _link(source, alone, older)
  before, _ = run.restored(alone)
  for i in range(tries):
    rng = chaos.rng_of(seed, "bits", i)
    workdir = lab.folder / f"bits{i}"
    _link(source, workdir, older, newer)
    name, what = _damage(rng, workdir / "checkpoints", newer)
    with warnings.catch_warnings(record=True) as told:
      warnings.simplefilter("always")
      found, error = chaos.bounded(run.restored, workdir)
    said = " ".join(str(w.message) for w in told) + str(error)
    wrong = ""
    if error is None and found[0] == good:
      row.notes["bit-equal"] += 1
      wrong = _in_the_way(workdir, newer + 4) if name.isdigit() else ""
    elif error is None and found[0] != before:
      wrong = "other values without a word"
    elif name not in said:
      wrong = f"the file is not named: {type(error).__name__}: {error}"
    elif error is None:
      row.notes["the one before is used"] += 1
      wrong = _in_the_way(workdir, newer)
    row.settle(f"{i} {name} {what}", None if wrong else error, wrong[:600])
    shutil.rmtree(workdir)
  return row


def _link(source, target, *steps):
  """Makes a workdir with some of the checkpoints, of the same bytes."""
  for step in steps:
    folder = f"checkpoints/{step}"
    shutil.copytree(source / folder, target / folder, copy_function=os.link)


def _damage(rng, folder, newer):
  """Damages the newest checkpoint; returns which file, and what was done."""
  files = sorted(p for p in (folder / str(newer)).rglob("*") if p.is_file())
  kind = rng.choice(("bytes",) * 16 + ("missing",) * 2 + ("folder", "mark"))
  if kind == "folder":
    (folder / str(newer + 4)).mkdir()
    return str(newer + 4), "an empty folder"
  if kind == "mark":
    (folder / str(newer) / COMMIT).unlink()
    return COMMIT, "missing"
  weights = [path.stat().st_size for path in files]
  if rng.random() < 0.5:
    weights = [size > 0 for size in weights]  # small files as often
  (path,) = rng.choices(files, weights)
  data = path.read_bytes()
  path.unlink()
  if kind == "missing":
    return path.name, "missing"
  data, what = chaos.mutate(rng, data)
  path.write_bytes(data)
  return path.name, what


def _in_the_way(workdir, step):
  """Returns why the step whose checkpoint was bad cannot be saved, or ""."""
  abstract = run.abstract()
  state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), abstract)
  try:
    with saver.Manager(workdir) as manager:
      manager.save(step, jax.device_put(state), {})
  except Exception as error:
    return f"in the way of a later save: {error}"
  return ""


def weights(lab, tries, seed):
  """Damaged .npz, safetensors, config.json and tokenizer files."""
  row = chaos.Row("weight files")
  npz, hf = str(lab.folder / "w.npz"), str(lab.folder / "w_hf")
  for name, form in ((npz, "npz"), (hf, "hf")):
    if not os.path.exists(name):
      convert.convert(lab.whole, name, form)
  beside = load.beside(npz)
  files = [(npz, npz)] * 4
  for folder, name in ((hf, hf), (beside, npz)):
    for path in sorted(os.listdir(folder)):
      num = 4 if path.endswith((".safetensors", "config.json")) else 2
      files += [(os.path.join(folder, path), name)] * num
  right = {name: _values(name) for name in (npz, hf)}
  for i in range(tries):
    rng = chaos.rng_of(seed, "weights", i)
    path, name = rng.choice(files)
    data = pathlib.Path(path).read_bytes()
    case = f"{i} {os.path.relpath(path, lab.folder)} "
    try:
      case += _damage_file(rng, path, data)
      got, error = chaos.bounded(_values, name)
    finally:
      chaos.write(path, data)
    other = error is None and got != right[name]
    if other and path.endswith(_UNCHECKED):
      row.notes["other values in a format without checksums"] += 1
    row.settle(
      case,
      error,
      "other values" if other and not path.endswith(_UNCHECKED) else "",
    )
  return row


def _damage_file(rng, path, data):
  if path.endswith(".json") and rng.random() < 0.7:
    tree = json.loads(data)
    what = chaos.replace_value(rng, tree)
    data = json.dumps(tree).encode()
  else:
    data, what = chaos.mutate(rng, data)
  chaos.write(path, data)
  return what


def _values(name):
  """Returns all that weights hold, as bytes by name."""
  found = load.open(name)
  with contextlib.closing(found.reader):
    values = {
      key: tensors.whole(found.reader, key).tobytes()
      for key in found.reader.specs
    }
  tok = tokenizer.Tokenizer(opened.need_tokenizer(found))
  values["tokenizer"] = str(tok.encode(TEXT)), tok.decode(tok.encode(TEXT))
  values["config"] = found.cfg, opened.images(found)
  return values
