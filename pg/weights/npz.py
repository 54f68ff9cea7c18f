"""big_vision's weight files: one `.npz`, layers stacked for a scan.

An `.npz` is a zip with one `.npy` per tensor. The names are ours, or ours
under `params/`; bfloat16, which numpy does not know, is stored as a void of
two bytes. Nothing is ever unpickled.
"""

import dataclasses
import math
import os
import zipfile
import zlib

import jax
import numpy as np

from pg import tree
from pg.models import gemma, paligemma, siglip, variants
from pg.weights import tensors

_BF16 = tensors.DTYPES["bfloat16"]
_DTYPES = {
  np.dtype(np.float32): tensors.DTYPES["float32"],
  np.dtype(np.float16): tensors.DTYPES["float16"],
  np.dtype("V2"): _BF16,
}
PREFIX, _SUFFIX = "params/", ".npy"
_PIECE = 1 << 18  # bytes
# Weights are noise, which no zip makes much smaller.
_LARGE, _MOST_RATIO = 1 << 30, 100
# What the shapes of a decoder do not tell.
_SWITCHES = (
  "attn_softcap",
  "final_softcap",
  "query_scale",
  "window",
  "vocab_size",
)


class Reader:
  """Reads an `.npz` tensor by tensor and layer by layer, in any order.

  In the order of the file it reads each byte once, and compares the checksum
  when a tensor ends. See `pg/weights/tensors.py` for its methods.
  """

  def __init__(self, path):
    """Opens the file and reads what its tensors are.

    Raises:
      ValueError: no such file, not an `.npz`, cut short, or with an entry that
        is no array of f32, f16 or bf16; all of these are listed.
    """
    self._path = os.fspath(path)
    try:
      self._zip = zipfile.ZipFile(self._path)
    except FileNotFoundError as error:
      raise ValueError(f"no file {self._path}") from error
    except (zipfile.BadZipFile, EOFError) as error:
      raise ValueError(
        f"{self._path} is no .npz, or cut short: {error}; copy it again"
      ) from error
    self._streams, self._entries, self.specs = {}, {}, {}
    try:
      self._read_headers()
    except BaseException:
      self.close()
      raise

  def read(self, name, layer=None):
    spec = self.specs[name]
    entry, fortran = self._entries[name]
    if fortran and layer is not None:
      return self.read(name)[layer]
    shape = spec.shape if layer is None else spec.shape[1:]
    num_bytes = math.prod(shape) * spec.dtype.itemsize
    start = (layer or 0) * num_bytes
    try:
      data = self._bytes(name, entry, start, num_bytes)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
      raise ValueError(
        f"{self._path} is damaged at {name}: {error}; copy it again"
      ) from error
    array = np.frombuffer(data, spec.dtype)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)

  def close(self):
    for stream, _ in self._streams.values():
      stream.close()
    self._zip.close()

  def _read_headers(self):
    entries = self._zip.infolist()
    names = [i.filename for i in entries if not i.is_dir()]
    total, size = sum(i.file_size for i in entries), os.path.getsize(self._path)
    if total > max(_LARGE, _MOST_RATIO * size):
      raise ValueError(
        f"{self._path}: {size:,} bytes are {total:,} when unpacked, as no"
        " weights are"
      )
    if any(name.startswith(PREFIX) for name in names):  # the rest is not ours
      names = [name for name in names if name.startswith(PREFIX)]
    wrong = []
    for entry in sorted(names):
      name = entry.removeprefix(PREFIX).removesuffix(_SUFFIX)
      try:
        shape, fortran, dtype = self._header(entry)
      except (ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        wrong.append(f"! {name}: {error}")
        continue
      self.specs[name] = jax.ShapeDtypeStruct(shape, dtype)
      self._entries[name] = entry, fortran and len(shape) > 1
    if wrong or not self.specs:
      listed = "\n".join(tree.some(wrong)) or "it is empty"
      raise ValueError(
        f"{self._path}: wanted arrays of float32, float16 or bfloat16 (as a"
        f" void of 2 bytes), found\n{listed}"
      )

  def _header(self, entry):
    with self._zip.open(entry) as f:
      shape, fortran, dtype = _read_header(f)
      want = f.tell() + math.prod(shape) * dtype.itemsize
    size = self._zip.getinfo(entry).file_size
    if size != want:
      raise ValueError(f"{size:,} bytes, where {list(shape)} wants {want:,}")
    return shape, fortran, dtype

  def _bytes(self, name, entry, start, num_bytes):
    """Returns bytes of a tensor, going on from where it was last read."""
    stream, position = self._streams.pop(name, (None, 0))
    if stream is None or position > start:
      stream, position = self._zip.open(entry), 0
      _read_header(stream)
    while position < start:
      position += len(_exactly(stream, min(_PIECE, start - position)))
    data = _exactly(stream, num_bytes)
    spec = self.specs[name]
    if start + num_bytes < math.prod(spec.shape) * spec.dtype.itemsize:
      self._streams[name] = stream, start + num_bytes
      return data
    with stream:  # one more read: the checksum is compared at the very end
      if stream.read(1):
        raise EOFError("there is more than its shape says")
    return data


def config_of(specs):
  """Returns the paligemma.Config of tensors, whose file does not state it.

  Sizes follow from shapes. Soft-caps, query scale and window do not: they are
  those of the variant with these sizes, whatever its resolution, or else the
  usual ones of its generation.

  Args:
    specs: {name: shape}, a reader's.

  Raises:
    ValueError: tensors that are needed for it are missing.
  """
  shapes = {name: spec.shape for name, spec in specs.items()}
  try:
    return paligemma.Config(img_config(shapes), llm_config(shapes))
  except (KeyError, IndexError, ValueError) as error:
    raise ValueError(
      f"this is no PaliGemma: {error} is missing or has an unusual shape; found"
      f" {', '.join(tree.some(list(shapes)))}. A tower alone is named as"
      " img=... or llm=..."
    ) from error


def write(path, specs, read, prefix=""):
  """Writes an `.npz` that numpy and big_vision open, a layer at a time.

  Args:
    path: str, a file that does not exist.
    specs: {name: shape and dtype} to write.
    read: function (name, layer) -> array, of any dtype, as a reader's.
    prefix: str, what names in the file begin with.

  Raises:
    ValueError: the file exists, or a value does not fit its dtype.
    OSError: it cannot be written; nothing is left of it.
  """
  tensors.check_free(path, tensors.size(specs))
  with (
    tensors.making(path) as partial,
    zipfile.ZipFile(partial, "w") as archive,
  ):
    for name, spec in specs.items():
      entry = zipfile.ZipInfo(
        prefix + name + _SUFFIX
      )  # of 1980: the same bytes always
      with archive.open(entry, "w", force_zip64=True) as f:
        void = spec.dtype == _BF16
        descr = "|V2" if void else np.lib.format.dtype_to_descr(spec.dtype)
        np.lib.format.write_array_header_1_0(
          f, dict(descr=descr, fortran_order=False, shape=spec.shape)
        )
        for layer in tensors.parts(name, spec.shape):
          tensors.write_array(f, read(name, layer), spec.dtype)


def img_config(shapes):
  """Returns the siglip.Config of {name: shape}."""
  block = "img/Transformer/encoderblock"
  patch, _, _, width = shapes["img/embedding/kernel"]
  query = f"{block}/MultiHeadDotProductAttention_0/query/kernel"
  return siglip.Config(
    width=width,
    depth=shapes[query][0],
    mlp_dim=shapes[f"{block}/MlpBlock_0/Dense_0/kernel"][2],
    num_heads=shapes[query][2],
    patch=patch,
    res=patch * math.isqrt(shapes["img/pos_embedding"][1]),
  )


def llm_config(shapes):
  """Returns the gemma.Config of {name: shape}, caps by its sizes."""
  attn = "llm/layers/attn"
  depth, num_heads, head_dim, width = shapes[f"{attn}/attn_vec_einsum/w"]
  llm = gemma.Config(
    width=width,
    depth=depth,
    mlp_dim=shapes["llm/layers/mlp/linear"][1],
    num_heads=num_heads,
    num_kv_heads=shapes.get(f"{attn}/kv_einsum/w", (0, 0, num_heads))[2],
    head_dim=head_dim,
    vocab_size=shapes["llm/embedder/input_embedding"][0],
    post_norms="llm/layers/post_ffw_norm/scale" in shapes,
  )
  for known in variants.VARIANTS.values():
    if _sizes(known.llm) == _sizes(llm):
      return dataclasses.replace(known.llm, vocab_size=llm.vocab_size)
  caps = dict(attn_softcap=50.0, final_softcap=30.0) if llm.post_norms else {}
  return dataclasses.replace(llm, **caps)


def _sizes(llm):
  return {k: v for k, v in vars(llm).items() if k not in _SWITCHES}


def _read_header(f):
  """Reads shape, whether it is in Fortran order, and dtype.

  Raises:
    ValueError: not an array, or of a dtype that weights do not have.
  """
  try:
    version = np.lib.format.read_magic(f)
    if version != (1, 0):  # the others are for headers of up to gigabytes
      raise ValueError(f"version {version} of the format; wanted (1, 0)")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(f)
  except ValueError as error:
    raise ValueError(f"not an array ({error})") from error
  if dtype.hasobject:
    raise ValueError("a pickle, which is never opened: it could run anything")
  if dtype not in _DTYPES:
    raise ValueError(f"dtype {dtype}")
  return shape, fortran, _DTYPES[dtype]


def _exactly(stream, num_bytes):
  data, num_read = bytearray(num_bytes), 0
  while num_read < num_bytes:  # in pieces: a read of all would hold it twice
    piece = stream.read(min(_PIECE, num_bytes - num_read))
    if not piece:
      raise EOFError(f"it ends {num_bytes - num_read} bytes too early")
    data[num_read : num_read + len(piece)] = piece
    num_read += len(piece)
  return data
