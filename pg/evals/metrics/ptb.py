"""Penn Treebank tokens of captions.

CIDEr, BLEU, ROUGE-L and METEOR of captions are defined on what the tokenizer of
Stanford CoreNLP 3.4.1 makes of them, in lower case and without punctuation, as
called by pycocoevalcap. These are the same tokens without Java.
"""

import functools
import re

from pg.evals.metrics import ptb_rules, ptb_words

# What is taken out of the tokens of a caption. Brackets are "-lrb-" by the time
# the reference looks for "-LRB-", so that they stay.
REMOVED = frozenset("'' ' `` ` . ? ! , : - -- ... ;".split())
# A word, or words with hyphens, before a space: nothing longer begins here.
_WORD = re.compile("[A-Za-z]+(?:-[A-Za-z]+)*")
_PLAIN = re.compile(rf"({_WORD.pattern})([.,;:!?]?)(?=[ \n])")
# Nine captions of ten are only such words.
_PLAIN_TEXT = re.compile(
  rf"(?:{_WORD.pattern}[,;:!?]? +)*{_WORD.pattern} ?[.!?]? *"
)


def tokenize(text, following=""):
  """Returns the tokens of a text, a list of str.

    tokenize("A man's T-shirt, isn't (very) red.") == ["a", "man", "'s",
      "t-shirt", "is", "n't", "-lrb-", "very", "-rrb-", "red"]

  Args:
    text: a caption. Ends of lines count as spaces; characters that the
      reference does not know are left out, as there.
    following: the caption after this one. The reference reads all captions as
      the lines of one file, and what begins the next line can decide whether a
      full stop at the end of this one is part of a token ("No.", "vitamin C.").
  """
  if _PLAIN_TEXT.fullmatch(text):
    tokens = _WORD.findall(text)
    stop = "." in text
    if not (_special(tokens[-1], stop) or any(map(_splits, tokens))):
      return [token.lower() for token in tokens]
  text = " ".join(text.splitlines())
  end = len(text)
  text = f"{text}\n{following}\n"
  tokens, place = [], 0
  while place < end:
    plain = _PLAIN.match(text, place)
    if plain and not _special(plain[1], plain[2] == "."):
      tokens.append(plain[1].lower())
      place = plain.end()
    else:
      place = _longest(text, place, tokens)
    while text[place] == " ":
      place += 1
  # The reference writes the tokens on a line and strips the line: a token of
  # odd white space at its end (an address can have some) loses that.
  tokens = " ".join(tokens).rstrip().split(" ")
  return [token for token in tokens if token and token not in REMOVED]


def tokenize_all(texts):
  """Returns the tokens of texts that follow each other, a list of lists."""
  texts = list(texts)
  return [tokenize(*pair) for pair in zip(texts, [*texts[1:], ""])]


@functools.lru_cache(1 << 16)
def _splits(word):
  """Returns whether a plain word is two tokens."""
  return bool(ptb_words.SPLIT.fullmatch(word))


def _special(word, stop):
  """Returns whether a plain word is split, or keeps the full stop after it."""
  return _splits(word) or (stop and _keeps_stop(word))


@functools.lru_cache(1 << 16)
def _keeps_stop(word):
  return len(word) == 1 or bool(ptb_words.ABBREVIATION.fullmatch(word))


def _longest(text, place, tokens):
  """Appends the token at a place, if any, and returns the place after it.

  It is the longest text, with what must follow it, that any rule describes; of
  rules with equal lengths the first counts.
  """
  best, rewrite, end = None, None, place
  for pattern, write in ptb_rules.starting(text[place]):
    match = pattern.match(text, place)
    if match and match.end() > end:
      best, rewrite, end = match, write, match.end()
  if best is None:
    return place + 1
  token = rewrite(best[1]) if rewrite else best[1]
  if token:
    tokens.append(token.lower())
  return best.end(1)
