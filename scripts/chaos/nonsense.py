"""Nonsense in what people write: rows, images and configs."""

import contextlib
import functools
import io
import json
import math
import os
import pathlib
import resource
import struct
import zlib

import jax
import numpy as np
from PIL import Image

from pg import config, experiment, pp, train
from pg.codecs import tokenizer
from pg.data import bad, pipeline, prefix_lm, stream
from pg.learn import state as state_lib
from scripts import chaos
from scripts.chaos import run

RES = 48
# What a key may be set to that nobody should.
VALUES = (
  "-1 0 1 0.0 -0.5 1.5 nan 1e400 1e30 nonsense None True [] {} () (1,2) bf16"
  " -1% 1000% 1e400ep"
).split()
VALUES += [str(2**70), ""]
# Keys that may be 0, or below it; None where no default is None.
_ZERO = ("total", "warmup", "lr", "wd", "grad_clip", "label_smoothing", "seed")
_ZERO += ("dropout", "final_softcap", "save_every", "every", "start", "end")
_ZERO += ("max_checkpoints", "num_workers", "cache_gb", "max_fraction", "b1")
_ZERO += ("b2", "temperature", "top_k", "window")
_BELOW_ONE = ("label_smoothing", "dropout", "b1", "b2")
_NULLABLE = ("max_len", "num_examples", "batch_size", "pp", "max_checkpoints")


def rows(lab, tries, seed):
  """Damaged lines and images, read as training reads them."""
  row = chaos.Row("rows and images")
  folder = lab.folder / "rows"
  folder.mkdir(exist_ok=True)
  cases = []
  with open(folder / "rows.jsonl", "wb") as f:
    f.write(json.dumps(_row(_image(folder, 0, "png"))).encode() + b"\n")
    for i in range(1, tries + 1):
      line, case = _bad_row(chaos.rng_of(seed, "rows", i), folder, i)
      cases.append(f"{i} {case}")
      f.write(line.replace(b"\n", b" ").strip() or b"{")
      f.write(b"\n")
  spec = dict(source="jsonl", path=str(folder / "rows.jsonl"))
  (data,) = pipeline.datasets(spec, f"decode(exif=True) | resize({RES})")
  form = prefix_lm.Form(tokenizer.Tokenizer(tokenizer.NANO), RES, 1, 32)
  make = functools.partial(prefix_lm.train_row, form)
  read = lambda i: stream.read(data, i, pp.Turn((0, 0), i), make)
  assert len(data.source) == tries + 1
  for i, case in enumerate(cases, start=1):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _, error = chaos.bounded(read, i, seconds=10)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    if grown > 1 << 20:  # KiB
      row.fail(
        case, f"too much memory: {grown >> 10} MiB; {type(error).__name__}"
      )
    elif error is None or isinstance(error, pp.Skip):
      row.survived += 1
    elif isinstance(error, bad.BadRow) and "rows.jsonl" not in str(error):
      row.fail(case, f"the row is not named: {error}")
    else:
      row.settle(case, error)
  return row


def _row(image):
  return dict(image=image, prefix="caption en", suffix="a red bus", id=3)


def _image(folder, i, form):
  """Writes an image; returns its name."""
  noise = np.random.default_rng(i).integers(0, 256, (64, 48, 3), np.uint8)
  name = f"{i}.{form}"
  Image.fromarray(noise).save(folder / name)
  return name


def _bad_row(rng, folder, i):
  """Returns a damaged line, whose image may be damaged too, and what it is."""
  form = rng.choice(("png", "jpg", "gif", "webp", "bmp", "tiff"))
  name = _image(folder, i, form)
  made = _row(name)
  kind = rng.choice(("image", "image", "image", "value", "line", "special"))
  if kind == "image":
    data, what = chaos.mutate(rng, (folder / name).read_bytes())
    chaos.write(folder / name, data)
    return json.dumps(made).encode(), f"{form} {what}"
  if kind == "value":
    what = chaos.replace_value(rng, made)
    return json.dumps(made).encode(), what
  if kind == "line":
    data, what = chaos.mutate(rng, json.dumps(made).encode())
    return data, f"line {what}"
  special = rng.choice((_bomb, _pipe, _zero, _folder, _deep, _escape, _gif))
  return special(folder, name, made), special.__name__


def _bomb(folder, name, made):
  """A PNG whose header says 60,000 x 60,000."""
  image = io.BytesIO()
  Image.new("L", (1, 1)).save(image, "png")
  data = bytearray(image.getvalue())
  data[16:24] = struct.pack(">II", 60_000, 60_000)
  data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
  chaos.write(folder / name, bytes(data))
  return json.dumps(made).encode()


def _gif(folder, name, made):
  """A real image of 200 million pixels in 200 kB."""
  Image.new("1", (20_000, 10_000)).save(folder / name, "png")
  return json.dumps(made).encode()


def _pipe(folder, name, made):
  (folder / name).unlink()
  os.mkfifo(folder / name)
  return json.dumps(made).encode()


def _zero(folder, name, made):
  (folder / name).unlink()
  os.symlink("/dev/zero", folder / name)
  return json.dumps(made).encode()


def _folder(folder, name, made):
  (folder / name).unlink()
  (folder / name).mkdir()
  return json.dumps(made).encode()


def _deep(folder, name, made):
  return b'{"image": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


def _escape(folder, name, made):
  """An image above the folder of its file."""
  image = _image(folder.parent, 0, "png")
  return json.dumps({**made, "image": f"../{image}"}).encode()


def configs(lab, tries, seed):
  """Values of keys that nobody should set, and damaged config files."""
  row = chaos.Row("config values")
  c = config.load(run.CONFIG)
  keys = [key for key in _flat(c) if not key.startswith("arg.")]
  pairs = [(key, text) for key in keys for text in VALUES]
  num = min(tries * 9 // 10, len(pairs))
  rng = chaos.rng_of(seed, "configs", "which")
  for i, (key, text) in enumerate(rng.sample(pairs, num)):
    case = f"{i} --config.{key}={text[:40]!r}"
    value, error = chaos.bounded(_opened, run.CONFIG, [(key, text)], key)
    fine = error is None and not nonsense(key, value)
    row.settle(case, error, "" if fine else f"accepted: {value!r:.60}")
    row.notes["sensible"] += fine
  source = pathlib.Path(run.CONFIG).read_bytes()
  for i in range(num, tries):
    rng = chaos.rng_of(seed, "configs", i)
    data, what = chaos.mutate(rng, source)
    path = lab.folder / f"config{i}.py"
    path.write_bytes(data)
    _, error = chaos.bounded(_opened, str(path), [], "total")
    row.settle(f"{i} config file, {what}", error)
  return row


def _flat(c, prefix=""):
  """Returns the dotted keys of a config."""
  found = []
  for key, value in c.items():
    more = hasattr(value, "items")
    found += _flat(value, f"{prefix}{key}.") if more else [f"{prefix}{key}"]
  return found


def _opened(path, changes, key):
  """Does all that training does before it compiles; returns a key's value."""
  with contextlib.redirect_stderr(io.StringIO()):
    c = config.load(path, changes)
    found = experiment.open(c)
    experiment.check_data(found, str(run.ROOT / "nowhere"))
    jax.random.key(c.seed)
    batches = stream.train_batches(
      found.data, found.form, c.seed, c.batch_size, options=found.options
    )
    with contextlib.closing(batches):
      rows, *_ = next(batches)
    state = state_lib.abstract(found.cfg, found.tx, found.mesh, c.sharding)
    update = train.compile_update(c, found)
    with jax.set_mesh(found.mesh):
      jax.eval_shape(update, state, rows)
  return functools.reduce(lambda node, k: node[k], key.split("."), c)


def nonsense(key, value):
  """Returns whether a key must not have a value, as far as that is certain."""
  leaf = key.split(".")[-1]
  if value is None:
    return leaf not in _NULLABLE and not key.startswith("model.")
  if isinstance(value, str):
    return value.startswith("-") or value in ("nonsense", "1e400ep")
  if isinstance(value, bool) or not isinstance(value, int | float):
    return False
  return (
    not math.isfinite(value)
    or (value < 0 and not key.startswith("mesh."))
    or (value == 0 and leaf not in _ZERO)
    or (value >= 1 and leaf in _BELOW_ONE)
    or (value >= 2**64 and leaf == "seed")
  )
