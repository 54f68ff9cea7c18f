"""Loads a model to ask, of any weights, onto the devices that hold it."""

import contextlib
import dataclasses
import math

import jax
import jax.numpy as jnp

from pg import machine, progress, sharding
from pg.ask import model, options
from pg.codecs import tokenizer as tokenizer_lib
from pg.data import prefix_lm
from pg.models import variants
from pg.pp import flavours
from pg.weights import adapters as adapters_lib
from pg.weights import hub, serving
from pg.weights import load as load_lib
from pg.weights import opened as opened_lib

# Of a device's memory, what weights may take: the rest is for keys and values.
WEIGHTS_SHARE = 0.8
# Where the codec of the released models' masks is.
CODEC = "gs://big_vision/paligemma/vae-oid.npz"


def load(
  name=hub.NANO,
  *,
  tokenizer=None,
  dtype=None,
  res=None,
  pp=None,
  codec=None,
  urls=False,
  int8_keys=False,
  mesh=None,
  adapters=None,
  quantize=None,
):
  """Loads a model and how it sees images.

  Args:
    name: str, a run's folder, a checkpoint in it or released weights (see
      pg/weights/load.py); by default the small model that comes with pg.
    tokenizer: str or None, the path of another one than the model's own.
    dtype: str or None, in which weights are kept and activations computed:
      "float32", "bfloat16" or "float16"; None is what is fastest: bfloat16
      (float16 on a GPU without it), but on a CPU only for weights that are
      stored so, or are too large in float32.
    res: int or None, pixels per side; None is the model's own.
    pp: str or None, how it is to see images (see `flavours.named`); None is as
      it was trained.
    codec: str or None, what mask codes mean: a path or URL of a mask codec, or
      "nano"; None is the one it was trained with.
    urls: bool, whether images may be URLs.
    int8_keys: bool, whether keys and values of prompts are kept in 8 bits, half
      of their memory: worth it where images are many or large.
    mesh: dict or None, over which devices of this machine the weights are
      spread: {"tensor": 4}, or {"tensor": -1} for all, where each computes a
      part of every layer; {"fsdp": -1} where each answers a part of a batch and
      weights travel. None is one device, and of an accelerator that is too
      small for the weights {"tensor": -1}.
    adapters: {name: str} or None, of runs that trained adapters of these
      weights, or PEFT folders; see `Model.with_adapter`.
    quantize: str or None, to what weights are quantised as they are read: int8,
      int4 or nf4 (see pg/models/quantize.py); None leaves them as they are.

  Returns:
    Model.

  Raises:
    ValueError, OSError: no weights there, or without a tokenizer; no such pp,
      no such mesh; an adapter of other weights.
  """
  weights = load_lib.open(name)
  summed = adapters_lib.Summed(weights.reader, weights.name)
  if adapters:  # whose weights these have to be
    weights = dataclasses.replace(weights, reader=summed)
  with contextlib.closing(weights.reader):
    path = tokenizer or opened_lib.need_tokenizer(weights)
    tok = tokenizer_lib.Tokenizer(path)
    if res:
      weights = opened_lib.at_resolution(weights, res)
    if quantize:
      weights = opened_lib.quantized(weights, quantize)
    stored, size, packed = opened_lib.stored(weights)
    dtype = _dtype(dtype, stored, size, packed)
    cfg = variants.with_dtype(weights.cfg, dtype)
    pp = flavours.named(pp, cfg.img.res) if pp else opened_lib.images(weights)
    mesh = _mesh(mesh, size * jnp.dtype(dtype).itemsize + packed)
    opened = {
      k: load_lib.open_adapter(weights, x) for k, x in (adapters or {}).items()
    }
    params = serving.read(weights, cfg, mesh)
    bank = serving.bank_of(weights, cfg, mesh, opened, summed.checksums)
  rows = dict(num_images=1, text_len=options.MAX_LEN) | weights.rows
  form = prefix_lm.Form(tok, cfg.img.res, **rows)
  codec = codec or weights.codec or _codec_of(tok)
  how = dict(codec=codec, urls=urls, int8_keys=int8_keys, mesh=mesh)
  how |= dict(bank=bank, ways={k: x.pp for k, x in opened.items() if x.pp})
  return model.Model(cfg, params, form, pp, **how)


def _dtype(name, stored, size, packed=0):
  """Returns the dtype of a model's weights and activations.

  Args:
    name: str or None, what the user wants.
    stored: dtype, of the weights in their file.
    size: int, how many numbers they are, besides quantised ones.
    packed: int, bytes of these.
  """
  if name is not None or jax.default_backend() != "cpu":
    return variants.compute_dtype(name)
  if stored == jnp.bfloat16 and not packed and machine.multiplies_bfloat16():
    return "bfloat16"
  wanted = (4 * size + packed) / WEIGHTS_SHARE
  free = machine.available_memory()
  if wanted <= free:
    return "float32"
  progress.say(
    f"in float32 the model wants {wanted / 2**30:.1f} GiB of memory and"
    f" {free / 2**30:.1f} GiB are free: it is kept in bfloat16"
  )
  return "bfloat16"


def _mesh(sizes, num_bytes):
  """Returns the mesh that weights are spread over; None for a single device."""
  devices = jax.local_devices()
  if sizes is None:
    memory = (devices[0].memory_stats() or {}).get("bytes_limit", math.inf)
    if num_bytes < WEIGHTS_SHARE * memory:
      return None
    sizes = {"tensor": -1}
  elif -1 not in sizes.values():
    devices = devices[: math.prod(sizes.values())]
  return sharding.make_mesh(sizes, devices=devices)


def _codec_of(tok):
  """Returns the codec of weights that do not name one, by their vocabulary."""
  with open(tok.path, "rb") as mine, open(tokenizer_lib.NANO, "rb") as nano:
    return "nano" if mine.read() == nano.read() else CODEC
