"""What a check reads, how it is started, and how it tells what it found."""

import re

import numpy as np
import pytest

from pg import check as check_verb
from pg import pp
from pg.codecs import tokenizer
from pg.inspect import inspection, terminal
from tests.support import patient, tiny

row = patient.row
NANO = "configs/nano.py"


@pytest.fixture
def folder(tmp_path):
  return patient.Folder(tmp_path)


def test_a_decoded_evaluator_needs_room_for_the_prompt_only(folder):
  file = folder.write("a.jsonl", *patient.GOOD)
  other = folder.write("b.jsonl", row("a very long answer about it all"))
  val = patient.jsonl(other, metric="exact")
  alone = folder.config(patient.jsonl(file), dict(val=dict(val, max_len=40)))
  need = patient.look("--config", alone).report.doctor.need
  train = patient.look("--config", folder.config(patient.jsonl(file)))
  assert need == train.report.doctor.need
  both = dict(val=val, nll=dict(val, metric="perplexity"))
  path = folder.config(patient.jsonl(file), both)
  assert patient.look("--config", path).report.doctor.need > need


def test_an_answer_that_may_not_be_said_is_named(folder):
  file = folder.write("a.jsonl", *patient.GOOD)
  answer = "a very long answer"
  other = folder.write("b.jsonl", row("a"), row(answer))
  tok = tokenizer.Tokenizer(tokenizer.NANO)
  length = len(tok.encode(answer)) + 1  # with eos
  for max_len, kinds in ((length, []), (length - 1, ["long_answer"])):
    evals = dict(val=patient.jsonl(other, metric="exact", max_len=max_len))
    path = folder.config(patient.jsonl(file), evals)
    seen = patient.look("--config", path)
    assert list(seen.found) == kinds
  assert seen.found["long_answer"] == ("warning", 1, ["b.jsonl:2"])
  assert seen.code == 0


def test_rows_of_several_evaluators_are_read_once(folder):
  file = folder.write("a.jsonl", *patient.GOOD)
  other = folder.write("b.jsonl", *patient.some(5))
  val = patient.jsonl(other, metric="exact")
  few = dict(val, num_examples=2)
  evals = dict(val=val, nll=dict(val, metric="perplexity"), few=few)
  path = folder.config(patient.jsonl(file), evals)
  parts = patient.look("--config", path).report.doctor.parts
  read = {p.name: (p.num_read, p.train, p.generates) for p in parts}
  assert read == {
    "train": (3, True, False),
    "evals.nll+evals.val": (5, False, False),
    "evals.few": (2, False, True),
  }


def test_no_more_rows_are_read_than_the_run_reads(folder):
  c = tiny.nano(total=3, batch_size=8)
  report = check_verb.check(c, "nano")
  read = {part.name: part.num_read for part in report.doctor.parts}
  # The weights of the two are 0.35 and 0.15; evaluators have 12 rows.
  assert read == {"caption": 17, "digits": 8, "evals.caption+evals.nll": 12}


def test_some_examples_are_spread_over_a_dataset(folder):
  lines = patient.some(40)
  seen = folder.train(*lines, row(" "), examples=5)
  assert seen.report.doctor.parts[0].num_read == 5
  assert seen.found == {"empty": ("warning", 1, ["train.jsonl:44"])}
  assert check_verb.spread(9, 3).tolist() == [0, 4, 8]
  assert list(check_verb.spread(3, 9)) == [0, 1, 2]


def test_an_input_slower_than_the_steps_is_a_warning(folder):
  seen = folder.train(step_time=1e-6)
  assert seen.found["slow"][:2] == ("warning", 1)
  assert "it does not keep up" in seen.out
  assert seen.code == 0
  speed = seen.report.speed
  assert speed.wanted == 32 / 1e-6 > speed.many > 0 < speed.one
  assert "steps" not in folder.train().out.split("input:")[1].split("\n")[0]


def test_workers_are_counted_in_the_estimate(folder):
  file = folder.write("a.jsonl", *patient.GOOD)
  path = folder.config(patient.jsonl(file), more="c.input.num_workers = 1")
  speed = patient.look("--config", path).report.speed
  assert speed.how == "1 workers" and speed.many >= speed.one


@pytest.mark.parametrize(
  ("args", "message"),
  [
    ((), "give --config FILE or --train FILE"),
    (("--config", "nowhere.py"), "no config file 'nowhere.py'"),
    (("--train", "nowhere.jsonl"), "nowhere.jsonl: No such file"),
    (("--train", "x", "--config.lr=1"), "--config.lr=1 needs a --config"),
    (("--train", "x", "--config", NANO), "--train is for files"),
    (("--res=16", "--config", NANO), "--res is for files"),
    (("--config", NANO, "--config.lrr=1"), 'did you mean "lr"'),
    (("--config", NANO, "--examples=0"), "at least 1, got 0"),
    (("--config", NANO, "--examples=1", "--step-time=0"), "above 0, got 0"),
    (("--config", NANO, "--config.pp=decod"), "unknown op"),
    (
      ("--config", NANO, "--config.tokenizer=x.model"),
      "cannot read the tokenizer",
    ),
  ],
)
def test_what_cannot_be_checked_is_one_clear_line(args, message, monkeypatch):
  monkeypatch.chdir(tiny.ROOT)
  seen = patient.look(*args)
  assert isinstance(seen.code, str)  # which python prints, and ends with 1
  assert message in seen.code and "\n" not in seen.code.split("\n  ")[0]
  assert seen.report is None


def test_the_config_of_the_main_job_is_healthy(monkeypatch):
  monkeypatch.chdir(tiny.ROOT)
  seen = patient.look("--config", "configs/nano.py:full", "--examples=6")
  assert seen.code == 0
  assert "0 errors, 0 warnings" in seen.out
  assert len(seen.report.doctor.parts) > 20


def test_a_row_is_shown_as_the_model_sees_it(folder):
  seen = folder.train()
  where, made, prefix, suffix = seen.report.shown[0]
  tok = seen.report.tok
  columns = terminal.tokens(tok, made)
  assert len(columns) == 129
  pieces, ids, given, causal, target = zip(*columns)
  end = pieces.index("\\n")
  assert tok.decode(ids[1:end]) == prefix
  assert tok.decode(ids[end + 1 :]) == suffix
  assert np.array_equal(given, made["mask_input"])
  assert np.array_equal(causal, made["mask_ar"])
  assert np.array_equal(target, made["mask_loss"])
  assert f"{where} as the model sees it: 1 image(s) of 16x16" in seen.out
  assert re.search(r"piece <bos> .*\n  token +2 .*\n  input +1 ", seen.out)
  assert max(map(len, seen.out.splitlines()[-7:])) <= 104


def test_a_blind_run_sees_no_image(folder):
  file = folder.write("a.jsonl", *patient.GOOD)
  path = folder.config(patient.jsonl(file), more="c.blind = True")
  (shown, *_) = patient.look("--config", path).report.shown
  assert not shown.row["mask_image"].any() and not shown.row["image"].any()


def test_quantiles_and_bars_are_those_of_the_lengths():
  lengths = [3] * 50 + [5] * 49 + [90]
  counts = np.bincount(lengths).tolist()
  shares = (0.5, 0.51, 0.99, 1)
  assert [inspection.quantile(counts, q) for q in shares] == [3, 5, 5, 90]
  assert inspection.quantile([], 0.5) == 0
  assert terminal.span(counts) == "3-90"
  assert terminal.bars([0, 0, 1, 0, 8]) == "▂ █"
  assert len(terminal.bars(counts)) <= 16
  assert inspection.add_up([[1], [0, 2, 3], []]) == [1, 2, 3]


def test_the_worst_findings_come_first_and_then_the_commonest(folder):
  val = folder.write("val.jsonl", *patient.some(2))
  lines = [row(" ", "what is it? "), row("same", "say it "), row("same")]
  seen = folder.train(*lines, row("<loc12>"), val=val)
  shown = re.findall("^(?:error|warning|note): .*", seen.out, re.M)
  assert shown == [
    "error: <loc> or <seg> that are no tokens: 1 in train",
    "warning: prompts that end in spaces or newlines: 2 in train",
    "warning: empty suffixes: 1 in train",
    "note: training rows whose suffix other rows have, too: 2 in train",
  ]
  assert seen.out.endswith("\n\n1 error, 2 warnings, 1 note\n")


def test_a_long_message_is_cut(folder, monkeypatch):
  def complain(example):
    raise ValueError("long text " * 900)

  monkeypatch.setitem(pp.OPS, "complain", complain)
  spec = patient.jsonl(folder.write("a.jsonl", row()), pp="complain")
  seen = patient.look("--config", folder.config(spec))
  assert 10 < seen.out.count("long text") < 50
