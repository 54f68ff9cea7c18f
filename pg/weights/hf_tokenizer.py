"""A SentencePiece tokenizer in the files that Hugging Face wants.

`tokenizer.json` is made from the pieces: a pair of them is merged where the
pair is a piece too, those with the best score first.
"""

import json
import os
import shutil
import struct

import tokenizers
from tokenizers import decoders, models, normalizers

from pg.codecs import tokenizer

_NORMAL, _UNKNOWN, _CONTROL, _ADDED = 1, 2, 3, 4  # SentencePiece's types
_IMAGE = "<image>"


def write(folder, path):
  """Writes tokenizer.json, tokenizer.model and what goes with them.

  Args:
    folder: str, exists.
    path: str, a SentencePiece file that `tokenizer.Tokenizer` takes.

  Raises:
    ValueError: not such a file, or not of the type "bpe".
  """
  made = build(path)
  made.save(os.path.join(folder, "tokenizer.json"))
  shutil.copyfile(path, os.path.join(folder, "tokenizer.model"))
  special = dict(
    bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
  )
  config = special | dict(
    tokenizer_class="GemmaTokenizer",
    processor_class="PaliGemmaProcessor",
    add_bos_token=True,
    add_eos_token=False,
    additional_special_tokens=[_IMAGE],
    clean_up_tokenization_spaces=False,
    model_max_length=10**30,
  )
  special |= dict(additional_special_tokens=[_IMAGE])
  for name, value in (
    ("tokenizer_config.json", config),
    ("special_tokens_map.json", special),
  ):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
      json.dump(value, f, indent=2)


def build(path):
  """Returns a `tokenizers.Tokenizer` with the ids of ours, and `<image>`.

  Raises:
    ValueError: as `write`.
  """
  ours = tokenizer.Tokenizer(path)
  with open(path, "rb") as f:
    listed = list(_pieces(f.read()))
  names = ours.pieces(range(ours.vocab_size))
  listed += [(name, 0.0, _ADDED) for name in names[len(listed) :]]
  vocab = {name: i for i, (name, _, _) in enumerate(listed)}
  made = tokenizers.Tokenizer(
    models.BPE(
      vocab=vocab,
      merges=_merges(listed),
      unk_token="<unk>",
      fuse_unk=True,
      byte_fallback=True,
    )
  )
  made.normalizer = normalizers.Replace(" ", "▁")
  made.decoder = decoders.Sequence(
    [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
  )
  made.add_special_tokens(
    [
      tokenizers.AddedToken(name, normalized=False, special=True)
      for name, _, kind in listed
      if kind in (_UNKNOWN, _CONTROL)
    ]
  )
  # Spaces in them are "▁": they are found in the normalised text.
  made.add_tokens(
    [
      tokenizers.AddedToken(name, normalized="▁" in name)
      for name, _, kind in listed
      if kind == _ADDED
    ]
  )
  made.add_special_tokens([tokenizers.AddedToken(_IMAGE, normalized=False)])
  if made.token_to_id(_IMAGE) != ours.vocab_size:
    raise ValueError(f"{path} has {_IMAGE} already; use the file without it")
  return made


def _merges(listed):
  """Returns the pairs of pieces that are merged, the first ones first."""
  rank = {
    name: (-score, i)
    for i, (name, score, kind) in enumerate(listed)
    if kind == _NORMAL
  }
  pairs = []
  for whole, place in rank.items():
    for cut in range(1, len(whole)):
      left, right = whole[:cut], whole[cut:]
      if left in rank and right in rank:
        pairs.append((place, rank[left][1], rank[right][1], left, right))
  return [(left, right) for _, _, _, left, right in sorted(pairs)]


def _pieces(model):
  """Yields (piece, score, type) of a serialized ModelProto.

  Its field 1, once per piece, is a message: string piece = 1; float score = 2;
  Type type = 3, NORMAL where it is absent.
  """
  for field, message in _fields(model):
    if field == 1:
      piece = {1: b"", 2: b"\0\0\0\0", 3: _NORMAL} | dict(_fields(message))
      (score,) = struct.unpack("<f", piece[2])
      yield piece[1].decode(), score, piece[3]


def _fields(data):
  """Yields (number, value) of a protobuf message: int for varints, or bytes."""
  i = 0
  while i < len(data):
    key, i = _varint(data, i)
    kind = key & 7
    if kind == 0:
      value, i = _varint(data, i)
    else:
      size, i = _varint(data, i) if kind == 2 else ({1: 8, 5: 4}[kind], i)
      value, i = data[i : i + size], i + size
    yield key >> 3, value


def _varint(data, i):
  value, shift = 0, 0
  while True:
    value |= (data[i] & 127) << shift
    shift, i = shift + 7, i + 1
    if not data[i - 1] & 128:
      return value, i
