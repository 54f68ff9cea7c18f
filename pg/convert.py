r"""Converts weights between big_vision's, Hugging Face's and our own files.

python -m pg.convert paligemma-3b-pt-224 pt_224.npz --to npz
python -m pg.convert runs/mine mine_hf --to hf --dtype bfloat16 --check
python -m pg.convert pt_224.npz runs/start --to orbax --tokenizer gemma.model

SRC is an .npz, a Hugging Face folder, a run or a checkpoint in it. A layer at a
time is in memory, where neither side is a checkpoint of ours; with one, a
tensor. What an .npz has no place for (config.json, tokenizer, the embedding's
rows behind the vocabulary) lies beside it in a folder, `pt_224.hf`, and comes
back from there.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import sys
import time

import ml_collections
import numpy as np

from pg import command, config, train, tree
from pg.codecs import tokenizer
from pg.weights import (
  hf,
  hf_config,
  hf_tokenizer,
  hub,
  npz,
  orbax,
  tensors,
)

# What is copied of a Hugging Face folder: all but what is made of the weights.
_KEPT = (".json", ".model", ".jinja")
_MADE = ("config.json", "model.safetensors.index.json")
_PADDING, _BESIDE = "padding.npy", "hf"
_NO_TOKENIZER = (
  "{} has no tokenizer, which a Hugging Face folder needs; give --tokenizer"
  " FILE: {}"
)


@dataclasses.dataclass
class Source:
  """Opened weights, and what comes with them."""

  reader: object  # see pg/weights/tensors.py
  raw: dict  # as a config.json
  padding: np.ndarray | None  # rows of the embedding behind the vocabulary
  files: str | None  # folder of tokenizer files
  tokenizer: str | None  # SentencePiece file


def open_source(path):
  """Opens weights of any of the forms.

  Raises:
    ValueError: there are none, or they cannot be read.
  """
  if os.path.isfile(path):
    reader = npz.Reader(path)
    beside = _beside(path)
    if os.path.isdir(beside):
      return _with_beside(reader, beside)
    cfg = npz.config_of(reader.specs)
    return Source(reader, hf_config.raw_of(cfg), None, None, None)
  if hf.is_folder(path):
    reader = hf.Reader(path)
    model = os.path.join(path, "tokenizer.model")
    model = model if os.path.isfile(model) else None
    return Source(reader, reader.raw, reader.padding, path, model)
  reader = orbax.Reader(path)
  workdir = train.workdir_of(path)
  beside = os.path.join(workdir, _BESIDE)
  if os.path.isdir(beside):
    return _with_beside(reader, beside)
  with open(os.path.join(workdir, "config.json"), encoding="utf-8") as f:
    c = ml_collections.ConfigDict(json.load(f))
  model = os.path.join(workdir, "tokenizer.model")
  cfg = train.model_config(c, tokenizer.Tokenizer(model))
  return Source(reader, hf_config.raw_of(cfg), None, None, model)


def _with_beside(reader, folder):
  raw, padding = hf_config.read(folder), os.path.join(folder, _PADDING)
  model = os.path.join(folder, "tokenizer.model")
  return Source(
    reader,
    raw,
    np.load(padding, allow_pickle=False) if os.path.exists(padding) else None,
    folder,
    model if os.path.exists(model) else None,
  )


def convert(src, dst, to, *, dtype=None, model=None, check=False, show=None):
  """Converts weights; `dst` appears when it is complete.

  Args:
    src: str, an .npz, a Hugging Face folder, a run or a checkpoint in it.
    dst: str, a file or a folder that does not exist.
    to: str, "npz", "hf" or "orbax".
    dtype: str or None, "float32", "bfloat16" or "float16"; None keeps them.
    model: str or None, a SentencePiece file for `dst`.
    check: bool, read `dst` again and compare every bit.
    show: function of bytes done and bytes in all, called as it goes on.

  Raises:
    ValueError: what is at `src` cannot be read or written in this form; `dst`
      exists; or what was written is not what was read.
    OSError: `dst` cannot be written; nothing is left of it.
  """
  write = config.lookup(FORMS, to, "form")
  dtype = dtype and tensors.dtype(dtype)
  source = open_source(src)
  with contextlib.closing(source.reader) as reader:
    cfg = hf_config.config_of(source.raw)
    tensors.check(reader.specs, cfg, src)
    specs = tensors.cast(reader.specs, dtype)
    source.tokenizer = model or source.tokenizer
    _check_tokenizer(source, cfg, to, src)
    through_disk = to == "orbax" or isinstance(reader, orbax.Reader)
    factor = 2 if through_disk else 1
    tensors.check_free(dst, factor * tensors.size(specs))
    total = tensors.size(specs) * (2 if check else 1)
    read = _counted(reader, specs, total, show)
    beside = _beside(dst) if to == "npz" else None
    with contextlib.ExitStack() as stack:
      if beside:
        beside = stack.enter_context(tensors.replacing(beside))
      partial = stack.enter_context(tensors.replacing(dst))
      if to == "hf" and isinstance(reader, orbax.Reader):
        # A tensor at a time there, a layer of all here: with a file between.
        between = stack.enter_context(tensors.scratch(dst))
        npz.write(between, reader.specs, reader.read)
        reader = stack.enter_context(contextlib.closing(npz.Reader(between)))
        read = _counted(reader, specs, total, show)
      write(partial, beside, source, specs, read)
      if check:
        _compare(READERS[to](partial), reader, specs, read)


def _write_npz(path, beside, source, specs, read):
  npz.write(path, specs, read)
  _write_beside(beside, source)


def _write_orbax(path, _, source, specs, read):
  orbax.write(path, specs, read)
  _write_beside(os.path.join(path, _BESIDE), source)
  if source.tokenizer:
    shutil.copyfile(source.tokenizer, os.path.join(path, "tokenizer.model"))


def _write_hf(path, _, source, specs, read):
  if len({spec.dtype for spec in specs.values()}) > 1:
    specs = tensors.cast(specs, tensors.DTYPES["float32"])
  os.mkdir(path)
  hf.write(path, source.raw, specs, read, source.padding)
  _copy_files(source.files, path)
  if not os.path.exists(os.path.join(path, "tokenizer.json")):
    hf_tokenizer.write(path, source.tokenizer)


FORMS = {"npz": _write_npz, "hf": _write_hf, "orbax": _write_orbax}
READERS = {"npz": npz.Reader, "hf": hf.Reader, "orbax": orbax.Reader}


def _write_beside(folder, source):
  """Keeps what a Hugging Face folder has and the weights' own form has not."""
  os.mkdir(folder)
  with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as f:
    json.dump(source.raw, f, indent=2)
  _copy_files(source.files, folder)
  if source.tokenizer:
    target = os.path.join(folder, "tokenizer.model")
    shutil.copyfile(source.tokenizer, target)
  if source.padding is not None:
    padding = np.asarray(source.padding, np.float32)  # of bf16, too, exactly
    np.save(os.path.join(folder, _PADDING), padding)


def _copy_files(source, target):
  for name in sorted(os.listdir(source)) if source else ():
    path = os.path.join(source, name)
    if name.endswith(_KEPT) and name not in _MADE and os.path.isfile(path):
      shutil.copyfile(path, os.path.join(target, name))


def _beside(path):
  return f"{os.fspath(path).removesuffix('.npz')}.{_BESIDE}"


def _check_tokenizer(source, cfg, to, src):
  """Raises ValueError where a tokenizer is missing or of another model."""
  if source.tokenizer:
    tok = tokenizer.Tokenizer(source.tokenizer)
    if tok.vocab_size != cfg.llm.vocab_size:
      raise ValueError(
        f"{source.tokenizer} has {tok.vocab_size} pieces with <loc> and <seg>,"
        f" {src} has {cfg.llm.vocab_size} rows; is it this model's?"
      )
  elif to == "hf" and not (
    source.files
    and os.path.exists(os.path.join(source.files, "tokenizer.json"))
  ):
    raise ValueError(_NO_TOKENIZER.format(src, hub.tokenizer_hint()))


def _counted(reader, specs, total, show):
  """Returns the reader's `read` that tells `show` how far it has come."""
  done = 0

  def read(name, layer=None):
    nonlocal done
    array = reader.read(name, layer)
    done += array.size * specs[name].dtype.itemsize
    if show:
      show(min(done, total), total)
    return array

  return read


def _compare(written, reader, specs, read):
  """Raises ValueError unless every bit is the source's after the cast."""
  with contextlib.closing(written):
    if wrong := tree.diff(dict(reader.specs), dict(written.specs)):
      raise ValueError(f"what was written has other tensors:\n{wrong}")
    for name, spec in specs.items():
      for layer in tensors.parts(name, spec.shape):
        want, got = read(name, layer), written.read(name, layer)
        if not tensors.same_bits(want, got, written.specs[name].dtype):
          raise ValueError(
            f"{name}, layer {layer}: what was written is not what was read; is"
            " the disk all right?"
          )


class Bar:
  """Prints how far a conversion is: a bar on a terminal, else the end alone."""

  def __init__(self, stream=None):
    self._stream, self._start = stream or sys.stderr, time.monotonic()
    self._shown = -1

  def __call__(self, done, total):
    """Shows bytes done of bytes in all."""
    percent = 100 * done // total
    if percent == self._shown or not (self._stream.isatty() or done == total):
      return
    self._shown = percent
    seconds = time.monotonic() - self._start
    bar = "#" * (percent // 4)
    start, end = ("\r", "") if self._stream.isatty() else ("", "\n")
    self._stream.write(
      f"{start}[{bar:25}] {percent:3}%  {done / 1e9:.2f} of {total / 1e9:.2f}"
      f" GB  {done / 1e6 / max(seconds, 1e-3):.0f} MB/s{end}"
    )
    self._stream.flush()


def main(args):
  convert(
    args.src,
    args.dst,
    args.to,
    dtype=args.dtype,
    model=args.tokenizer,
    check=args.check,
    show=Bar(),
  )
  if sys.stderr.isatty():
    sys.stderr.write("\n")
  print(f"{args.dst}: written{' and compared' if args.check else ''}")


if __name__ == "__main__":
  if len(sys.argv) > 2 and not sys.argv[1].startswith("-"):
    sys.argv[1:3] = ["--src", sys.argv[1], "--dst", sys.argv[2]]
  command.run(
    main,
    __doc__,
    with_config=False,
    src=dict(required=True, help="the first word: .npz, folder or run"),
    dst=dict(required=True, help="the second word: what is to be made"),
    to=dict(required=True, choices=tuple(FORMS), help="form of DST"),
    dtype=dict(choices=tuple(tensors.DTYPES), help="default as in SRC"),
    tokenizer=dict(help="SentencePiece file for DST; default that of SRC"),
    check=dict(action="store_true", help="read DST again and compare bits"),
  )
