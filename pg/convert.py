r"""Converts weights between big_vision's, Hugging Face's and our own files.

python -m pg.convert paligemma-3b-pt-224 pt_224.npz --to npz
python -m pg.convert runs/mine mine_hf --to hf --dtype bfloat16 --check
python -m pg.convert pt_224.npz runs/start --to orbax --tokenizer gemma.model
python -m pg.convert pt_224.npz pt_224_int8.safetensors --quantize int8
python -m pg.convert runs/mine mine_hf --to hf --push me/mine

SRC is an .npz, a Hugging Face folder, a run or a checkpoint in it, the hf:// or
other URL of one, or a new PaliGemma, `img=SIGLIP,llm=GEMMA` (see
pg/weights/load.py). A layer at a time is in memory. What an .npz has no place
for (config.json, tokenizer, how images were seen in training, the embedding's
rows after the vocabulary) lies beside it in a folder, `pt_224.hf`, and comes
back from there. --push also uploads a folder for Hugging Face, with a model
card, to a private repository.
"""

import contextlib
import json
import os
import shutil
import sys

import jax
import numpy as np

from pg import atomic, command, config, progress, tree
from pg.codecs import tokenizer
from pg.log import mirror
from pg.models import quantize as quantize_lib
from pg.weights import (
  card,
  hf,
  hf_config,
  hf_tokenizer,
  load,
  npz,
  opened,
  openpi,
  orbax,
  packed,
  peft,
  push,
  tensors,
)

# What is copied of a Hugging Face folder: all but what is made of the weights.
_KEPT = (".json", ".model", ".jinja")
_MADE = ("config.json", "model.safetensors.index.json")
_SIZED = ("preprocessor_config.json", "processor_config.json")


def convert(
  src,
  dst,
  to,
  *,
  dtype=None,
  res=None,
  model=None,
  seed=0,
  check=False,
  quantize=None,
  quiet=True,
):
  """Converts weights; `dst` appears when it is complete.

  Args:
    src: str, a name of weights; see `load.open`.
    dst: str, a file or a folder that does not exist.
    to: str, "npz", "hf", "orbax", "openpi" or "peft": the adapter alone; None
      with `quantize`, which has a form of its own.
    dtype: str or None, "float32", "bfloat16" or "float16"; None keeps them.
    res: int or None, pixels per side that position embeddings are made for.
    model: str or None, a SentencePiece file for `dst`.
    seed: int, of new rows of the embedding where `src` is two towers.
    check: bool, read `dst` again and compare every bit.
    quantize: str or None, the format of quantised weights, such as "int8".
    quiet: bool, prints no progress.

  Raises:
    ValueError: what is at `src` cannot be read or written in this form, or has
      a value that is inf or nan; `dst` exists; or what was written is not what
      was read.
    OSError: `dst` cannot be written; nothing is left of it.
  """
  if quantize and to or not (quantize or to):
    raise ValueError(
      f"--to is {to!r} and --quantize {quantize!r}: wanted one of them, as"
      " quantised weights have a form of their own"
    )
  to = to or "quantized"
  forms = {**FORMS, "quantized": _write_quantized, "peft": _write_peft}
  write = config.lookup(forms, to, "form")
  dtype = dtype and tensors.dtype(dtype)
  source = load.open(src, seed=seed)
  with contextlib.closing(source.reader):
    if source.tower:
      raise ValueError(
        f"{src} is one tower; a PaliGemma has two: img=NAME,llm=NAME"
      )
    if res:
      source = opened.at_resolution(source, res)
    if quantize:
      source = opened.quantized(source, quantize)
    if to == "peft":
      return _write_peft(dst, source)
    source.raw = source.raw or hf_config.raw_of(source.cfg)
    source.tokenizer = model or source.tokenizer
    reader = source.reader
    tensors.check(reader.specs, source.cfg, src)
    specs = tensors.cast(reader.specs, dtype)
    _check_tokenizer(source, to)
    reading = source.rows.get("prompt", "full")
    if reading != "full" and not quiet:
      progress.say(
        f"trained with prompt = {reading!r}, which {to} does not say: others"
        " will let all of a prompt see all of it"
      )
    tensors.check_free(dst, _size(reader, specs, to))
    total = tensors.size(specs) * (2 if check else 1)
    beside = load.beside(dst) if to in ("npz", "quantized") else None
    with contextlib.ExitStack() as stack:
      bar = dict(total=total, unit="B", unit_scale=True, delay=0, disable=quiet)
      bar = stack.enter_context(progress.Bar(**bar))
      read = _counted(reader, specs, bar)
      if beside:
        beside = stack.enter_context(tensors.making(beside))
      partial = stack.enter_context(tensors.making(dst))
      write(partial, beside, source, specs, read)
      if check:
        _compare(READERS[to](partial), reader, specs, read)


def _write_peft(path, source):
  """Writes the adapter alone, for PEFT."""
  adapter = getattr(source.reader, "adapter", None)
  if adapter is None:
    raise ValueError(
      f"{source.name} has no adapter; name a run that trained one (lora.rank)"
    )
  with tensors.making(path) as partial:
    peft.write(partial, adapter, source.cfg)


def _write_npz(path, beside, source, specs, read):
  npz.write(path, specs, read)
  _write_beside(beside, source)


def _write_quantized(path, beside, source, specs, read):
  packed.write(path, source.reader, specs, read)
  _write_beside(beside, source)


def _size(reader, specs, to):
  """Returns the bytes of what is written."""
  if to != "quantized":
    return tensors.size(specs)
  quantized = tensors.quantized(reader)
  rest = {k: x for k, x in specs.items() if k not in quantized}
  return tensors.size(rest) + sum(
    map(quantize_lib.num_bytes, quantized.values())
  )


def _write_orbax(path, _, source, specs, read):
  orbax.write(path, specs, read)
  _write_beside(os.path.join(path, load.BESIDE), source)
  if source.tokenizer:
    shutil.copyfile(source.tokenizer, os.path.join(path, "tokenizer.model"))


def _write_hf(path, _, source, specs, read):
  if len({spec.dtype for spec in specs.values()}) > 1:
    specs = tensors.cast(specs, tensors.DTYPES["float32"])
  os.mkdir(path)
  hf.write(path, source.raw, specs, read, source.padding)
  _write_processor(path, source)
  if not os.path.exists(os.path.join(path, "tokenizer.json")):
    hf_tokenizer.write(path, source.tokenizer)


def _write_openpi(path, _, source, specs, read):
  openpi.write(path, source, specs, read)


FORMS = {
  "npz": _write_npz,
  "hf": _write_hf,
  "orbax": _write_orbax,
  "openpi": _write_openpi,
}
READERS = {
  "npz": npz.Reader,
  "hf": hf.Reader,
  "orbax": orbax.Reader,
  "openpi": npz.Reader,
  "quantized": packed.Reader,
}


def _write_beside(folder, source):
  """Keeps what a Hugging Face folder has and the weights' own form has not."""
  os.mkdir(folder)
  with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as f:
    json.dump(source.raw, f, indent=2)
  _write_processor(folder, source)
  if source.tokenizer:
    target = os.path.join(folder, "tokenizer.model")
    shutil.copyfile(source.tokenizer, target)
  if source.padding is not None:
    padding = np.asarray(source.padding, np.float32)  # of bf16, too, exactly
    np.save(os.path.join(folder, load.PADDING), padding)


def _write_processor(target, source):
  """Copies tokenizer and processor; not the size of images if it is new."""
  hf.write_processor(target, source.cfg.img, opened.images(source))
  files, made = source.files, _MADE + _SIZED * source.resampled
  for name in sorted(os.listdir(files)) if files else ():
    path = os.path.join(files, name)
    if name.endswith(_KEPT) and name not in made and os.path.isfile(path):
      shutil.copyfile(path, os.path.join(target, name))


def _check_tokenizer(source, to):
  """Raises ValueError where a tokenizer is missing or of another model."""
  rows, files = source.cfg.llm.vocab_size, source.files
  if source.tokenizer:
    tok = tokenizer.Tokenizer(source.tokenizer)
    if tok.vocab_size != rows:
      raise ValueError(
        f"{source.tokenizer} has {tok.vocab_size} pieces with <loc> and <seg>,"
        f" {source.name} has {rows} rows; is it this model's?"
      )
  elif to == "hf" and not (
    files and os.path.exists(os.path.join(files, "tokenizer.json"))
  ):
    opened.need_tokenizer(source)


def _counted(reader, specs, bar):
  """Returns the reader's `read`, whose bytes a progress bar counts."""

  def read(name, layer=None):
    array = tensors.read_finite(reader, name, layer)
    num_bytes = array.size * specs[name].dtype.itemsize
    bar.update(min(num_bytes, bar.total - bar.n))
    return array

  return read


def _compare(written, reader, specs, read):
  """Raises ValueError unless every bit is the source's after the cast."""
  with contextlib.closing(written):
    if wrong := tree.diff(dict(reader.specs), dict(written.specs)):
      raise ValueError(f"what was written has other tensors:\n{wrong}")
    for name, spec in specs.items():
      for layer in tensors.parts(name, spec.shape):
        if not _is_same(name, layer, written, reader, read):
          raise ValueError(
            f"{name}, layer {layer}: what was written is not what was read; is"
            " the disk all right?"
          )


def _is_same(name, layer, written, reader, read):
  """Returns whether one layer of a tensor is what was read."""
  if name not in tensors.quantized(written):
    pair = read(name, layer), written.read(name, layer)
    return tensors.same_bits(*pair, written.specs[name].dtype)
  want, got = (x.packed(name, layer) for x in (reader, written))
  same = lambda x, y: np.array_equal(x.view(np.int8), y.view(np.int8))
  return all(jax.tree.leaves(jax.tree.map(same, want, got)))


def main(args):
  given = dict(vars(args))
  name = given.pop("push")
  if name:
    if args.to != "hf":
      raise ValueError(f"--push {name} is of a folder for it: --to hf")
    if atomic.is_url(args.dst):
      raise ValueError(f"--push {name} is of a folder here, not {args.dst}")
    push.check(name)
  with mirror.out(given.pop("dst"), is_new=True) as dst:
    convert(dst=dst, model=given.pop("tokenizer"), quiet=False, **given)
    if name:
      card.write(dst, name, args.src)
  print(f"{args.dst}: written{' and compared' if args.check else ''}")
  if name:
    url = push.upload(dst, name)
    print(f"{url}: uploaded; a repository that is new is private")


if __name__ == "__main__":
  if len(sys.argv) > 2 and not sys.argv[1].startswith("-"):
    sys.argv[1:3] = ["--src", sys.argv[1], "--dst", sys.argv[2]]
  command.run(
    main,
    __doc__,
    with_config=False,
    src=dict(required=True, help="the first word: a name of weights"),
    dst=dict(required=True, help="the second word: what is to be made"),
    to=dict(choices=(*FORMS, "peft"), help="form of DST"),
    quantize=dict(help="weights to int8, int4 or nf4, in a form of ours"),
    dtype=dict(choices=tuple(tensors.DTYPES), help="default as in SRC"),
    res=dict(type=int, help="pixels per side, to resample positions for"),
    seed=dict(type=int, default=0, help="of new rows, where SRC is two towers"),
    tokenizer=dict(help="SentencePiece file for DST; default that of SRC"),
    check=dict(action="store_true", help="read DST again and compare bits"),
    push=dict(metavar="OWNER/NAME", help="upload DST to Hugging Face's hub"),
  )
