"""What a check reads, how it is started, and how it tells what it found."""

import re
import runpy

import numpy as np
import pytest

from pg import check as check_verb
from pg import pp
from pg.codecs import tokenizer
from pg.data import pipeline, stream
from pg.data.formats import checks as checks_lib
from pg.inspect import inspection, terminal
from tests.support import checks, tiny

row = checks.row
NANO = "configs/nano.py"


@pytest.fixture
def folder(tmp_path):
  return checks.Folder(tmp_path)


def test_a_decoded_evaluator_needs_room_for_the_prompt_only(folder):
  file = folder.write("a.jsonl", *checks.GOOD)
  other = folder.write("b.jsonl", row("a very long answer about it all"))
  val = checks.jsonl(other, metric="exact")
  alone = folder.config(checks.jsonl(file), dict(val=dict(val, max_len=40)))
  need = checks.run("--config", alone).report.inspection.min_text_len
  train = checks.run("--config", folder.config(checks.jsonl(file)))
  assert need == train.report.inspection.min_text_len
  both = dict(val=val, nll=dict(val, metric="perplexity"))
  path = folder.config(checks.jsonl(file), both)
  assert checks.run("--config", path).report.inspection.min_text_len > need


def test_an_answer_that_may_not_be_said_is_named(folder):
  file = folder.write("a.jsonl", *checks.GOOD)
  answer = "a very long answer"
  other = folder.write("b.jsonl", row("a"), row(answer))
  tok = tokenizer.Tokenizer(tokenizer.NANO)
  length = len(tok.encode(answer)) + 1  # with eos
  for max_len, kinds in ((length, []), (length - 1, ["long_answer"])):
    evals = dict(val=checks.jsonl(other, metric="exact", max_len=max_len))
    path = folder.config(checks.jsonl(file), evals)
    result = checks.run("--config", path)
    assert list(result.found) == kinds
  assert result.found["long_answer"] == ("warning", 1, ["b.jsonl:2"])
  assert result.code == 0


def test_rows_of_several_evaluators_are_read_once(folder):
  file = folder.write("a.jsonl", *checks.GOOD)
  other = folder.write("b.jsonl", *checks.some(5))
  val = checks.jsonl(other, metric="exact")
  few = dict(val, num_examples=2)
  evals = dict(val=val, nll=dict(val, metric="perplexity"), few=few)
  path = folder.config(checks.jsonl(file), evals)
  datasets = checks.run("--config", path).report.inspection.datasets
  read = {d.name: (d.num_read, d.train, d.generates) for d in datasets}
  assert read == {
    "train": (3, True, False),
    "evals.nll+evals.val": (5, False, False),
    "evals.few": (2, False, True),
  }


def test_no_more_rows_are_read_than_the_run_reads(folder):
  c = tiny.nano(total=3, batch_size=8)
  report = check_verb.check(c, "nano")
  read = {part.name: part.num_read for part in report.inspection.datasets}
  # The weights of the two are 0.35 and 0.15; evaluators have 12 rows.
  assert read == {"caption": 17, "digits": 7, "evals.caption+evals.nll": 12}


def test_some_examples_are_spread_over_a_dataset(folder):
  lines = checks.some(40)
  result = folder.train(*lines, row(" "), examples=5)
  assert result.report.inspection.datasets[0].num_read == 5
  assert result.found == {"empty": ("warning", 1, ["train.jsonl:44"])}
  assert checks_lib.spread(9, 3) == [0, 4, 8]
  assert list(checks_lib.spread(3, 9)) == [0, 1, 2]


def test_an_input_slower_than_the_steps_is_a_warning(folder):
  result = folder.train(step_time=1e-6)
  assert result.found["slow"][:2] == ("warning", 1)
  assert "it does not keep up" in result.out
  assert result.code == 0
  throughput = result.report.throughput
  assert (
    throughput.wanted == 32 / 1e-6 > throughput.parallel > 0 < throughput.single
  )
  assert "steps" not in folder.train().out.split("input:")[1].split("\n")[0]


def test_workers_are_counted_in_the_estimate(folder):
  file = folder.write("a.jsonl", *checks.GOOD)
  path = folder.config(checks.jsonl(file), more="c.input.num_workers = 1")
  throughput = checks.run("--config", path).report.throughput
  assert (
    throughput.readers == "1 workers"
    and throughput.parallel >= throughput.single
  )


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
  result = checks.run(*args)
  assert isinstance(result.code, str)  # which python prints, and ends with 1
  assert message in result.code and "\n" not in result.code.split("\n  ")[0]
  assert result.report is None


def test_the_config_of_the_main_job_is_healthy(monkeypatch):
  monkeypatch.chdir(tiny.ROOT)
  result = checks.run("--config", "configs/nano.py:full", "--examples=6")
  assert result.code == 0
  assert "0 errors, 0 warnings" in result.out
  assert len(result.report.inspection.datasets) > 20


def test_a_row_is_shown_as_the_model_sees_it(folder):
  result = folder.train()
  where, made, prefix, suffix, _ = result.report.batch[0]
  tok = result.report.tok
  columns = terminal.tokens(tok, made)
  assert len(columns) == 129
  pieces, ids, given, causal, target = zip(*columns)
  end = pieces.index("\\n")
  assert tok.decode(ids[1:end]) == prefix
  assert tok.decode(ids[end + 1 :]) == suffix
  assert np.array_equal(given, made["mask_input"])
  assert np.array_equal(causal, made["mask_ar"])
  assert np.array_equal(target, made["mask_loss"])
  assert f"{where} as the model sees it: 1 image(s) of 16x16" in result.out
  assert re.search(r"piece <bos> .*\n  token +2 .*\n  input +1 ", result.out)
  assert max(map(len, result.out.splitlines()[-7:])) <= 104


def test_the_rows_that_training_reads_first_are_shown_once_each(folder):
  few = folder.write("few.jsonl", *checks.some(3))
  many = folder.write("many.jsonl", *checks.some(40))
  data = dict(
    few=dict(weight=0.25, **checks.jsonl(few)),
    many=dict(weight=0.75, **checks.jsonl(many)),
  )
  path = folder.config(data, more="c.batch_size, c.total = 16, 9")
  names = [s.where for s in checks.run("--config", path).report.batch]
  assert len(set(names)) == len(names) == 3 + 12
  assert sum("few.jsonl" in name for name in names) == 3
  c = runpy.run_path(str(path))["get_config"]()
  read, wanted = pipeline.datasets(c.data, c.pp), []
  stream_of_run = stream.Stream(read, lambda row: None, c.seed)
  for k in range(16):
    number, i, *_ = stream_of_run[k]
    wanted.append(read[number].source.where(i))
  assert names == list(dict.fromkeys(wanted))


def test_a_blind_run_sees_no_image(folder):
  file = folder.write("a.jsonl", *checks.GOOD)
  path = folder.config(checks.jsonl(file), more="c.blind = True")
  (shown, *_) = checks.run("--config", path).report.batch
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
  val = folder.write("val.jsonl", *checks.some(2))
  lines = [row(" ", "what is it? "), row("same", "say it "), row("same")]
  result = folder.train(*lines, row("<loc12>"), val=val)
  shown = re.findall("^(?:error|warning|note): .*", result.out, re.M)
  assert shown == [
    "error: <loc> or <seg> that are no tokens: 1 in train",
    "warning: prompts that begin or end in spaces or newlines: 2 in train",
    "warning: empty suffixes: 1 in train",
    "note: training rows whose suffix other rows have, too: 2 in train",
  ]
  assert result.out.endswith("\n\n1 error, 2 warnings, 1 note\n")


def test_a_long_message_is_cut(folder, monkeypatch):
  def complain(example):
    raise ValueError("long text " * 900)

  monkeypatch.setitem(pp.OPS, "complain", complain)
  spec = checks.jsonl(folder.write("a.jsonl", row()), pp="complain")
  result = checks.run("--config", folder.config(spec))
  assert 10 < result.out.count("long text") < 50


def test_what_is_found_can_be_shown_and_sent(folder):
  wrong = checks.row(image="http://me:secret@127.0.0.1:9/\x1b[2Ja.png")
  page = folder.path / "check.html"
  result = folder.train(wrong, out=page)
  (kind,) = result.found.keys() - {"tokenizer", "slow"}
  for said in (result.out, result.detail(kind), page.read_text()):
    assert "http://***@127.0.0.1:9/\\u001b[2Ja.png" in said
    assert "\x1b" not in said and "secret" not in said
