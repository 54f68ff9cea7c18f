"""The tokenizer of captions gives what the reference gives."""

import itertools

import pytest

from pg.evals.metrics import ptb
from tests.support import metric_golden


def test_tokens_are_the_reference_tokens_on_5000_texts():
  rows, _ = metric_golden.read("ptb_tokenizer")
  rows = [row for row in rows if not row.get("context_dependent")]
  assert len(rows) == 4995
  for row in rows:
    assert ptb.tokenize(row["text"]) == row["tokens"], row["text"]


@pytest.mark.parametrize("name", ["captions_made", "captions_coco_free"])
def test_tokens_of_captions_are_the_reference_tokens(name):
  rows, _ = metric_golden.read(name)
  for row in rows:
    assert " ".join(ptb.tokenize(row["candidate"])) == row["candidate_tok"]
    tokens = [" ".join(ptb.tokenize(text)) for text in row["references"]]
    assert tokens == row["references_tok"]


# Of the reference, asked for what the texts above do not have.
ANSWERS = [
  ("Cannot gonna wanna gimme", "can not gon na wan na gim me"),
  ("'Tis 'twas don't he's y'all", "'t is 't was do n't he 's y' all"),
  ("rock 'n' roll, o'clock, dunkin'", "rock 'n' roll o'clock dunkin'"),
  ("Mr. Smith etc. saw U.S. art.", "mr. smith etc. saw u.s. art"),
  ("Wash. the wash. Fig. 3 fig. a", "wash. the wash fig. 3 fig a"),
  ("x.y.z. Ph.D. non-U.S. a.k.a.", "x.y.z. ph.d. non-u.s. a.k.a."),
  ("3/4 1 1/2 2010-12-25 10%", "3/4 1\u00a01/2 2010-12-25 10 %"),
  ("(555) 123-4567", "-lrb-555-rrb-\u00a0123-4567"),
  ("½ ⅔ £ € ¢ ¥", "1/2 2/3 # $ cents ¥"),
  ("[x] {y} (z) <b> < 3", "-lsb- x -rsb- -lcb- y -rcb- -lrb- z -rrb- <b> < 3"),
  (":) ;-D =( x_x", ":-rrb- ;-d =-lrb- x_x"),
  ("a@b.co www.x.com/yy, #tag_x @me", "a@b.co www.x.com/yy #tag _ x @me"),
  ("www.x.com/y foo.jpg, 5.gif", "www.x.com / y foo.jpg 5.gif"),
  ("C++ AT&T a&amp;b &lt;", "c++ at&t a & b <"),
  ("half-eaten, U.S.-based -5 --- -----", "half-eaten u.s.-based -5 -----"),
  ("black cat!What? a..b", "black cat!what a. b"),
  ("naïve \U0001f642\U0001f3fd สีแดง 赤い、猫", "naïve สีแดง 赤い 、 猫"),
  ("soft\u00adhyphen zero\u200bwidth", "softhyphen zero width"),
  ("", ""),
  (". , !", ""),
]  # fmt: skip


@pytest.mark.parametrize("text, tokens", ANSWERS)
def test_tokens_are_those_that_the_reference_answered(text, tokens):
  assert " ".join(ptb.tokenize(text)) == tokens


def test_the_next_caption_can_decide_on_a_full_stop():
  for text, following, last in (
    ("see No.", "5 cats", "no."),
    ("see No.", "A cat", "no"),
    ("vitamin C.", "The cat", "c"),
    ("vitamin C.", "cats", "c."),
  ):
    assert ptb.tokenize(text, following)[-1] == last
    assert ptb.tokenize_all([text, following])[0][-1] == last


def test_nothing_of_the_next_caption_is_returned():
  for text, following in itertools.product(
    ["a cat", "a.", "x <b", ""], repeat=2
  ):
    assert ptb.tokenize(text, following) == ptb.tokenize(text)


def test_plain_words_are_read_as_others_are():
  """The short way for plain captions gives what the rules give."""
  words = [
    "a",
    "I",
    "Cannot",
    "St",
    "no",
    "cat",
    "non-stop",
    "x",
    "etc",
    "anti",
  ]
  ends = ["", ".", ",", "!", "?", ";", ":", " .", "  "]
  for (a, b), end in itertools.product(itertools.permutations(words, 2), ends):
    text = f"{a}{end} {b}{end}"
    # The quote takes the long way and leaves no token.
    assert ptb.tokenize(text) == ptb.tokenize(f'{text} "'), text


def test_line_ends_are_spaces():
  assert ptb.tokenize("a\ncat\r\non\u2028it") == ["a", "cat", "on", "it"]
  assert ptb.tokenize("1\n1/2") == ptb.tokenize("1 1/2") == ["1\u00a01/2"]
