"""Accuracy of answers that several people gave: VQAv2, TextVQA, OKVQA.

The official evaluations have peculiarities that published numbers depend on;
they are kept and named here.
"""

import functools
import re

from pg.evals.metrics import exact, statistics

_NUMBERS = "zero one two three four five six seven eight nine ten".split()
_WORDS = {word: str(i) for i, word in enumerate(_NUMBERS)} | {"none": "0"}
_ARTICLES = ("a", "an", "the")
# The words that get their apostrophes back: of one with two apostrophes the
# spellings that lack either, of one with one the spelling without, except those
# that are other words ("she'd" and "shed"). Text is lower case by then, so that
# the official entries of "I'm" and "I've" never apply.
_ONE = """ain't aren't can't could've couldn't didn't doesn't don't hadn't
hasn't haven't he'd he's how'd how'll how's isn't it'd it'll ma'am mightn't
might've mustn't must've needn't not've o'clock oughtn't shan't should've
shouldn't somebody'll somebody's someone'd someone'll someone's something'd
something'll that's there'd there're there's they'd they'll they're they've
'twas wasn't we've weren't what'll what're what's what've when's where'd
where's where've who'd who'll who's who've why'll why're why's won't would've
wouldn't y'all you'd you'll you're you've""".split()
_TWO = """couldn't've hadn't've he'd've it'd've mightn't've she'd've
shouldn't've somebody'd've someone'd've something'd've there'd've they'd've
we'd've who'd've wouldn't've y'all'll y'all'd've you'd've""".split()
_CONTRACTIONS = {
  **{word.replace("'", ""): word for word in _ONE},
  **{
    word[:i] + word[i + 1 :]: word
    for word in [*_TWO, "'ow's'at"]
    for i, letter in enumerate(word)
    if letter == "'"
  },
  "somebody'd": "somebodyd",  # official, the wrong way round
}
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_ANY = re.compile("[" + re.escape(_PUNCTUATION) + "]")


def strip(text):
  """Returns the text with line ends and tabs as spaces, none at its ends."""
  return text.replace("\n", " ").replace("\t", " ").strip()


@functools.lru_cache(1 << 16)
def normalize(text):
  """Normalizes an answer as the official evaluation of VQA does.

    normalize("Two dogs, and a cat!") == "2 dogs and cat"

  As there: a comma between two digits removes all punctuation, where otherwise
  what touches no space becomes one; of full stops that no digit follows the
  first 32 go (the flag re.UNICODE is passed as a count).
  """
  found = set(_ANY.findall(text))
  out = text
  for p in found:
    touches = f"{p} " in text or f" {p}" in text
    alone = touches or re.search(r"\d,\d", text)
    out = out.replace(p, "" if alone else " ")
  if "." in out:
    out = re.sub(r"\.(?!\d)", "", out, count=32)
  words = [_WORDS.get(word, word) for word in out.lower().split()]
  return " ".join(
    _CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES
  )


def normalize_textvqa(text):
  """Normalizes an answer as the evaluation of TextVQA does (M4C).

  Before `normalize` it drops commas and question marks and splits a "'s" off.
  """
  text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's")
  return normalize(strip(text.strip()))


def accuracy(prediction, answers, *, distinct=True):
  """Returns how far an answer agrees with those of people, in 0..1.

  The mean, over leaving out each person in turn, of a third for each of the
  others who gave this answer, at most 1: of ten, 3 that agree give 0.9.

  Args:
    prediction: str.
    answers: list of at least two str. Only where they differ (but for outer
      white space) is anything normalized.
    distinct: False for annotations without an id of their own, as in VizWiz:
      the official code then leaves out all that equal the one it leaves out,
      so that 3 of ten give 0.7.

  Raises:
    ValueError: fewer than two answers.
  """
  if len(answers) < 2:
    raise ValueError(
      f"got {len(answers)} answer; leaving out one needs at least two, use the"
      ' metric "exact" or "soft"'
    )
  prediction, answers = strip(prediction), [strip(a) for a in answers]
  if len(set(answers)) > 1:
    prediction, answers = normalize(prediction), [normalize(a) for a in answers]
  return _leave_one_out(answers.count(prediction), len(answers), distinct)


def accuracy_textvqa(prediction, answers):
  """As `accuracy`, with the normalization of TextVQA, and always with it."""
  if len(answers) < 2:
    raise ValueError(f"got {len(answers)} answer; wanted at least two")
  answers = [normalize_textvqa(a) for a in answers]
  matches = answers.count(normalize_textvqa(prediction))
  return _leave_one_out(matches, len(answers), True)


def vqav2(predictions, examples, *, distinct=True):
  """Scores VQA accuracy: Sums of acc and, by `answer_type`, such as acc/yesno.

  Examples may have an `answer_type`; see `accuracy` for `distinct`.
  """
  single = lambda p, e: accuracy(p, exact.answers(e), distinct=distinct)
  values = exact.each(single, predictions, examples)
  types = statistics.field(examples, "answer_type")
  return statistics.means(statistics.by("acc", values, types))


def textvqa(predictions, examples):
  """Scores TextVQA: Sums of `acc`."""
  single = lambda p, e: accuracy_textvqa(p, exact.answers(e))
  return statistics.means({"acc": exact.each(single, predictions, examples)})


def soft(predictions, examples, *, fold=str):
  """Scores plain soft accuracy: OKVQA, A-OKVQA, VizWiz.

  Nothing is normalized and nobody left out; `fold` is a function of a text
  before it is compared, such as str.lower.

  Returns:
    Sums of acc, a third for each answer that agrees, at most 1, and acc_any,
    whether any does.
  """
  count = lambda p, e: list(map(fold, exact.answers(e))).count(fold(p))
  counts = exact.each(count, predictions, examples)
  return statistics.means(
    {
      "acc": [min(1.0, n / 3) for n in counts],
      "acc_any": [min(1.0, float(n)) for n in counts],
    }
  )


def _leave_one_out(matches, n, distinct):
  # Leaving out one of the matches leaves this many.
  less = matches - 1 if distinct else 0
  kept = matches * min(1, less / 3) if matches else 0
  return (kept + (n - matches) * min(1, matches / 3)) / n
