"""Shortens long answers to text_len: whole parts, counted in tokens.

Text has no fixed number of tokens, so nothing short of the tokenizer of the run
says where a row ends.
"""

import bisect
import functools

from pg.codecs import tokenizer

_open = functools.lru_cache(maxsize=8)(tokenizer.Tokenizer)


def fits(prefix, suffix, text_len, path):
  """Returns whether a training row holds both texts and eos; see `most`.

  Raises:
    ValueError: no tokenizer for a text_len.
  """
  if text_len is None:
    return True
  if not path:
    raise ValueError(
      f"text_len={text_len} needs the tokenizer that counts tokens; add"
      ' tokenizer="..."'
    )
  tok = _open(path)
  # bos, prefix, separator, suffix, eos; the last is only a target.
  given = 1 + len(tok.encode(prefix)) + len(tok.sep)
  return given + len(tok.encode(suffix)) <= text_len


def most(num, write, text_len, path, least=0):
  """Writes as many parts as a training row holds together with its eos.

  Args:
    num: int, how many parts there are.
    write: function from a number of parts to (prefix, suffix, ...), str and
      str.
    text_len: int, as in the config; None: everything fits.
    path: str, the SentencePiece file.
    least: int, the number of parts that a row must hold.

  Returns:
    `write(k)` of a k that fits where k + 1 has_room not, or of `num`.

  Raises:
    ValueError: `least` parts do not fit, or no tokenizer for a text_len.
  """
  has_room = lambda k: fits(*write(k)[:2], text_len, path)
  if has_room(num):
    return write(num)
  fitting = range(least, num)
  fit = least - 1 + bisect.bisect(fitting, False, key=lambda k: not has_room(k))
  if fit < least:
    prefix, suffix, *_ = write(least)
    raise ValueError(
      f"text_len={text_len} is too short for {prefix!r}, {suffix!r}"
    )
  return write(fit)
