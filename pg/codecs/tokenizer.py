"""The tokenizer: a SentencePiece file with locations and segments added.

A PaliGemma vocabulary is the pieces of a SentencePiece file (256,000 for
Gemma), then `<loc0000>`..`<loc1023>` for coordinates (see boxes.py), then
`<seg000>`..`<seg127>` for mask codes. With Gemma's file these are the ids
256000..257023 and 257024..257151 of the released checkpoints.
"""

import os

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

NANO = os.path.join(os.path.dirname(__file__), "nano.model")

ADDED = tuple(f"<loc{i:04}>" for i in range(1024)) + tuple(
  f"<seg{i:03}>" for i in range(128)
)


class Tokenizer:
  """Encodes text to token ids and back; knows the special ids.

  Safe to share between threads, and small to pickle: a data worker opens the
  file again.

  Attributes:
    path: str, the SentencePiece file.
    vocab_size: int, the file's pieces + 1024 + 128.
    pad, eos, bos: int, 0, 1 and 2 as in every released checkpoint.
    sep: list of int, the ids of the newline between prefix and suffix.
  """

  pad, eos, bos = 0, 1, 2

  def __init__(self, path):
    """Opens the SentencePiece file at `path`.

    Raises:
      ValueError: no such file, not a SentencePiece file, or one that PaliGemma
        cannot use (other ids for pad, eos and bos, or newlines dropped).
    """
    self.path = os.fspath(path)
    self._pieces = _load(self.path)
    self.vocab_size = self._pieces.vocab_size()
    self.sep = self.encode("\n")
    self._validate()

  def encode(self, text):
    """Returns the ids of `text` as a list of int, without bos and eos.

    `<loc0123>` and `<seg012>` inside the text become one id each; so do the
    file's own pieces in angle brackets, such as Gemma's `<start_of_turn>`.

    Raises:
      ValueError: not a str, or not encodable as UTF-8 (a lone surrogate).
    """
    if not isinstance(text, str):
      raise ValueError(
        f"encode wants a str, got {type(text).__name__} {text!r}"
      )
    try:
      return self._pieces.encode(text)
    except RuntimeError as e:
      raise ValueError(f"{text!r} is not valid Unicode text") from e

  def spans(self, text):
    """Returns the span of `text` that each id of `encode` covers.

    Returns:
      list of (begin, end), characters; of ids that only begin the text,
      begin == end.
    """
    found = self._pieces.encode(text, return_type="proto").pieces
    data = text.encode()  # the file's offsets are bytes
    place = lambda num_bytes: len(data[:num_bytes].decode())
    return [(place(p.begin), place(p.end)) for p in found]

  def decode(self, ids):
    """Returns the text of `ids` up to the first eos; control pieces vanish.

    Args:
      ids: i32[L] or list of int.

    Raises:
      ValueError: an id outside of the vocabulary.
    """
    ids = self._known(ids)
    end = ids.index(self.eos) if self.eos in ids else len(ids)
    return self._pieces.decode(ids[:end])

  def pieces(self, ids):
    """Returns each id's piece in the vocabulary, to display a row.

    `[2, 21209, 659, 108]` gives `["<bos>", "caption", "▁en", "\\n"]` in Gemma's
    vocabulary, where "▁" is a space.

    Raises:
      ValueError: an id outside of the vocabulary.
    """
    return [self._pieces.id_to_piece(i) for i in self._known(ids)]

  def is_text(self, i):
    """Returns whether an id stands for text, a location or a code."""
    sp = self._pieces
    return not (sp.is_control(i) or sp.is_unknown(i) or sp.is_unused(i))

  def __reduce__(self):
    return Tokenizer, (self.path,)

  def _known(self, ids):
    ids = [int(i) for i in ids]
    if ids and not 0 <= min(ids) <= max(ids) < self.vocab_size:
      bad = next(i for i in ids if not 0 <= i < self.vocab_size)
      raise ValueError(
        f"id {bad} is outside of the vocabulary 0..{self.vocab_size - 1} of"
        f" {self.path}; is this the tokenizer the model was trained with?"
      )
    return ids

  def _validate(self):
    """Raises ValueError where the file's pieces do not fit a PaliGemma."""
    sp, first = self._pieces, self.vocab_size - len(ADDED)
    special = (sp.pad_id(), sp.eos_id(), sp.bos_id())
    if special != (self.pad, self.eos, self.bos):
      raise ValueError(
        f"{self.path}: pad, eos, bos have the ids {special}, wanted (0, 1, 2);"
        " train it with --pad_id=0 --eos_id=1 --bos_id=2 --unk_id=3"
      )
    if (sp.piece_to_id(ADDED[0]), sp.piece_to_id(ADDED[-1])) != (
      first,
      self.vocab_size - 1,
    ):
      raise ValueError(
        f"{self.path} has <loc> or <seg> pieces, but not as its last"
        f" {len(ADDED)}; use the file without them"
      )
    if self.decode(self.sep) != "\n":
      raise ValueError(
        f'{self.path} loses the newline that ends a prefix ("\\n" gives'
        f" {self.sep}); train it with --normalization_rule_name=identity"
        " --remove_extra_whitespaces=false and a piece for the newline"
      )


def _load(path):
  """Returns a SentencePieceProcessor of the file plus the added pieces."""
  try:
    with open(path, "rb") as f:
      model = f.read()
  except OSError as e:
    raise ValueError(f"cannot read the tokenizer {path!r}: {e.strerror}") from e
  # Files published for PaliGemma may have the added pieces already.
  if ADDED[0].encode() not in model:
    model += _added().SerializeToString()
  try:
    return sentencepiece.SentencePieceProcessor(model_proto=model)
  except RuntimeError as e:
    raise ValueError(
      f"{path!r} is not a SentencePiece model; wanted a file such as Gemma's"
      " tokenizer.model"
    ) from e


def _added():
  """Returns a ModelProto of ADDED: what follows another one is merged into it.

  USER_DEFINED pieces are never split.
  """
  proto = sentencepiece_model_pb2.ModelProto
  kind = proto.SentencePiece.USER_DEFINED
  return proto(pieces=[dict(piece=piece, type=kind) for piece in ADDED])
