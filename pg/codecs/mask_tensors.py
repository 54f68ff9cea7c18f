"""The tensors in a mask codec's file, as PyTorch lays them out.

The released one is gs://big_vision/paligemma/vae-oid.npz of
google-research/big_vision: 8,479,556 bytes, sha256
5586010257b8536dddefab65e7755077f21d5672d5674dacf911f73ae95a4447. Others may
have other numbers of channels and f16 weights. Nothing is ever unpickled.
"""

import collections
import os
import zipfile
import zlib

import numpy as np

from pg.data.storage import files

NUM_CODES = 128
_ZIP = (zipfile.BadZipFile, zlib.error)


def _conv(name, shape, bias):
  return {f"{name}.weight": shape, f"{name}.bias": (bias,)}


def _block(name, width):
  """Returns the tensors of a residual block."""
  return {
    **_conv(f"{name}.net.0", (width, width, 3, 3), width),
    **_conv(f"{name}.net.2", (width, width, 3, 3), width),
    **_conv(f"{name}.net.4", (width, width, 1, 1), width),
  }


# Name -> shape; a letter stands for a number of channels, and the released
# file's are a 16, b 32, c 64, d 128, D 512, e f 128, g 64, h 32, i 16.
TENSORS = {
  **_conv("encoder.0", ("a", 1, 4, 4), "a"),
  **_conv("encoder.2", ("b", "a", 4, 4), "b"),
  **_conv("encoder.4", ("c", "b", 4, 4), "c"),
  **_conv("encoder.6", ("d", "c", 4, 4), "d"),
  **_block("encoder.8", "d"),
  **_block("encoder.9", "d"),
  **_conv("encoder.10", ("D", "d", 1, 1), "D"),
  **_conv("decoder.0", ("e", "D", 1, 1), "e"),
  **_block("decoder.2", "e"),
  **_block("decoder.3", "e"),
  **_conv("decoder.4", ("e", "f", 4, 4), "f"),
  **_conv("decoder.6", ("f", "g", 4, 4), "g"),
  **_conv("decoder.8", ("g", "h", 4, 4), "h"),
  **_conv("decoder.10", ("h", "i", 4, 4), "i"),
  **_conv("decoder.12", (1, "i", 1, 1), 1),
  "_vq_vae._embedding": (NUM_CODES, "D"),
  "_vq_vae._ema_cluster_size": (NUM_CODES,),  # of training, as the next
  "_vq_vae._ema_w": (NUM_CODES, "D"),
}


def read(path):
  """Returns {name: array} of an `.npz` or its URL.

  Raises:
    ValueError: it cannot be read.
  """
  name = os.fspath(path)
  try:
    with np.load(files.local(name), allow_pickle=False) as z:
      return {key: z[key] for key in z.files}
  # A TypeError: an array and not a zip of them.
  except (OSError, ValueError, TypeError, EOFError, MemoryError, *_ZIP) as e:
    raise ValueError(f"cannot read the mask codec {name}: {e}") from e


def check(tensors, name):
  """Raises ValueError with a line for each tensor that is not of TENSORS."""
  lines = [f"- {key}: is missing" for key in TENSORS if key not in tensors]
  lines += [f"+ {key}: is unknown" for key in tensors if key not in TENSORS]
  shapes = {k: np.shape(v) for k, v in tensors.items() if k in TENSORS}
  sizes = _sizes(shapes)
  for key, shape in shapes.items():
    wanted = tuple(sizes.get(s, s) for s in TENSORS[key])
    if tensors[key].dtype.kind != "f":
      lines.append(f"! {key}: dtype {tensors[key].dtype}, wanted float")
    elif shape != wanted:
      lines.append(f"! {key}: shape {shape}, wanted {wanted}")
  if lines:
    raise ValueError(
      f"{name} is not the tensors of a mask codec, such as"
      " gs://big_vision/paligemma/vae-oid.npz:\n" + "\n".join(lines)
    )


def _sizes(shapes):
  """Returns {letter of TENSORS: what most tensors have for it}."""
  votes = collections.defaultdict(collections.Counter)
  for key, shape in shapes.items():
    if len(shape) == len(TENSORS[key]):
      for letter, size in zip(TENSORS[key], shape):
        votes[letter][size] += isinstance(letter, str)
  return {k: v.most_common(1)[0][0] for k, v in votes.items() if v.total()}
