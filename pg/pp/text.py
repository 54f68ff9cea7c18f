"""Text ops: fields of an example -> prefix (the prompt) and suffix (answer).

Most published prompts are one `fmt`; the double space and the tabs of the
multiple-choice ones are as they were published:

  fmt("caption {language}", out="prefix")
  fmt("answer en {question}", out="prefix")
  fmt("question en {answer}", out="prefix")
  join("choices", " \\t ", out="options")
  fmt("answer en  {question} choose from: {options}", out="prefix")
"""

import numbers
import re
import string

import numpy as np

from pg import pp
from pg.pp import budget, fields

# A sentence's end, and the short words whose full stop is none.
_END = re.compile(r"[.!?]+[\"')\]]*(?=\s|$)|[。！？]+")
_SHORT = re.compile(
  r"(?:^|[\s(])(?:[a-z]|e\.g|i\.e|al|approx|ca|cf|dr|eq|eqs|etc|fig|figs|mr"
  r"|mrs|ms|ref|refs|sec|st|tab|vs)\.$",
  re.IGNORECASE,
)


@pp.op
def fmt(example, template: str, out: str):
  """Fills a template: `fmt("answer en {question}", out="prefix")`.

  Each `{key}` stands for a text or number of the example; `{{` and `}}` are
  single braces.

  Raises:
    ValueError: no such key, a value that is no text or number, or a template
      with more than plain keys.
  """
  parts = []
  for literal, key, spec, conversion in string.Formatter().parse(template):
    parts.append(literal)
    if key is None:
      continue
    if spec or conversion:
      raise ValueError(
        f"{template!r}: write plain {{{key}}}, without ':' or '!'"
      )
    parts.append(_written(pp.get(example, key), f"{{{key}}}"))
  return {out: "".join(parts)}


@pp.op
def lower(example, key: str):
  """Makes a text, or each of a list, lower case: `lower("suffix")`."""
  return {key: _each(example, key, str.lower)}


@pp.op
def strip(example, key: str):
  """Takes white space off both ends of a text or each of a list."""
  return {key: _each(example, key, str.strip)}


@pp.op
def replace(example, key: str, pattern: str, by: str):
  r"""Replaces a regex in a text or list: `replace("x", r"\s+", " ")`."""
  try:
    return {key: _each(example, key, lambda x: re.sub(pattern, by, x))}
  except (re.error, IndexError) as e:
    raise ValueError(f"pattern {pattern!r} by {by!r}: {e}") from e


@pp.op
def join(example, key: str, sep: str, out: str):
  """Joins a list of texts or numbers: `join("choices", ", ", "options")`."""
  items = enumerate(fields.list_of(example, key))
  return {out: sep.join(_written(x, f"item {i} of {key!r}") for i, x in items)}


@pp.op
def first_sentence(example, key: str):
  """Cuts a text after its first sentence: `first_sentence("suffix")`.

  A sentence ends with `.`, `!` or `?` before white space (or 。！？), but not
  with an initial or an abbreviation such as "e.g." or "Fig.".
  """
  text = fields.text_of(example, key).strip()
  for end in _END.finditer(text):
    if not _SHORT.search(text[: end.end()]):
      return {key: text[: end.end()]}
  return {key: text}


@pp.op
def ocr(
  example,
  texts: str = "texts",
  sep: str = " ",
  text_len: int | None = None,
  tokenizer: str = "",
  *,
  rng,
):
  """Asks for all texts of an image, in their order: prefix "ocr".

  For the raster order of PaliGemma's pre-training, put `objects("raster")`
  before it. Where the texts are too many for a row, random ones are left out
  (section 3.2.5 of arXiv 2407.07726), never parts of one.

  Args:
    example: dict with a list of str.
    texts: the key of that list.
    sep: what stands between two texts.
    text_len: of the config; None leaves nothing out.
    tokenizer: path of the SentencePiece file that counts tokens.
    rng: which texts are left out.

  Raises:
    pp.Skip: there is no text that fits.
    ValueError: not a list of str, or a text_len without a tokenizer.
  """
  found = [text for text in fields.texts_of(example, texts) if text]
  if not budget.fits("ocr", sep.join(found), text_len, tokenizer):
    fits = lambda text: budget.fits("ocr", text, text_len, tokenizer)
    found = list(filter(fits, found))
  if not found:
    raise pp.Skip(f"{texts!r} has no text, or none that fits")
  ranked = rng.permutation(len(found))

  def write(k):
    return "ocr", sep.join(found[i] for i in sorted(ranked[:k]))

  prefix, suffix = budget.most(len(found), write, text_len, tokenizer, least=1)
  return {"prefix": prefix, "suffix": suffix}


def _each(example, key, function):
  """Applies `function` to the text, or to each of the texts, of a key."""
  if isinstance(pp.get(example, key), list | tuple | np.ndarray):
    return [function(text) for text in fields.texts_of(example, key)]
  return function(fields.text_of(example, key))


def _written(value, name):
  """Returns a text or number as text."""
  if not isinstance(value, str | numbers.Number):
    raise ValueError(
      f"{name} should be text or a number, but is {type(value).__name__}"
    )
  return str(value)
