"""A SentencePiece tokenizer in the files that Hugging Face wants.

`tokenizer.json` is made from the pieces: a pair of them is merged where the
pair is a piece too, those with the best score first.
"""

import json
import os
import shutil

import tokenizers
from sentencepiece import sentencepiece_model_pb2
from tokenizers import decoders, models, normalizers

from pg.codecs import tokenizer

_PROTO = sentencepiece_model_pb2.ModelProto
_TYPE = _PROTO.SentencePiece.Type
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
    pieces = list(_PROTO.FromString(f.read()).pieces)
  names = ours.pieces(range(ours.vocab_size))
  pieces += [
    _PROTO.SentencePiece(piece=name, type=_TYPE.USER_DEFINED)
    for name in names[len(pieces) :]
  ]
  made = tokenizers.Tokenizer(
    models.BPE(
      vocab={name: i for i, name in enumerate(names)},
      merges=_merges(pieces),
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
      tokenizers.AddedToken(p.piece, normalized=False, special=True)
      for p in pieces
      if p.type in (_TYPE.UNKNOWN, _TYPE.CONTROL)
    ]
  )
  # Spaces in them are "▁": they are found in the normalised text.
  made.add_tokens(
    [
      tokenizers.AddedToken(p.piece, normalized="▁" in p.piece)
      for p in pieces
      if p.type == _TYPE.USER_DEFINED
    ]
  )
  made.add_special_tokens([tokenizers.AddedToken(_IMAGE, normalized=False)])
  if made.token_to_id(_IMAGE) != ours.vocab_size:
    raise ValueError(f"{path} has {_IMAGE} already; use the file without it")
  return made


def _merges(pieces):
  """Returns the pairs of pieces that are merged, the first ones first."""
  rank = {
    p.piece: (-p.score, i)
    for i, p in enumerate(pieces)
    if p.type == _TYPE.NORMAL
  }
  pairs = []
  for whole, place in rank.items():
    for cut in range(1, len(whole)):
      left, right = whole[:cut], whole[cut:]
      if left in rank and right in rank:
        pairs.append((place, rank[left][1], rank[right][1], left, right))
  return [(left, right) for _, _, _, left, right in sorted(pairs)]
