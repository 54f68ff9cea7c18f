"""The verb that evaluates, compares, and makes files of predictions."""

import argparse
import functools
import io
import json
import os
import pathlib
import re
from unittest import mock

import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from pg import config as config_lib
from pg import evaluate
from pg.codecs import masks
from pg.evals import records, task
from pg.evals import run as evals_run
from pg.models import variants
from pg.pp import flavours
from pg.weights import load, opened, saver
from tests.support import paths


def answers(prediction="x", num=4, **more):
  return [
    dict(
      index=i, where=f"v:{i}", id={"question_id": i}, prompt="q", truth="x",
      prediction=prediction, score=float(prediction == "x"), **more,
    )
    for i in range(num)
  ]  # fmt: skip


@pytest.fixture
def runs(tmp_path):
  """Two runs with predictions, the first with older ones too."""
  write = lambda name, *args: records.write(
    str(tmp_path / name), answers(*args)
  )
  write("a/predictions/val-000000100.jsonl", "y")
  write("a/predictions/val-000000020.jsonl", "older")
  write("b/predictions/val-000000100.jsonl", "x")
  return tmp_path


def call(config=None, **given):
  """Calls the verb as its command line does."""
  names = ("checkpoint", "workdir", "compare", "predictions", "submit", "out")
  names += ("pp", "quantize")
  args = dict.fromkeys(names) | dict(mask_codec=masks.NANO) | given
  evaluate.main(argparse.Namespace(config=config, **args))


def test_lines_of_predictions_can_be_looked_at(tmp_path):
  path, rows = tmp_path / "a.jsonl", answers("\x1b[2J\u202e", num=1)
  records.write(str(path), rows)
  assert r'"\u001b[2J\u202e"' in path.read_text("utf-8")
  assert records.read(str(path)) == rows
  where = "http://me:secret@host/a.jsonl:7"
  record = records.record(0, where, None, "x", -1.0, {"prefix": "q"})
  assert record["where"] == "http://***@host/a.jsonl:7"


def test_two_runs_are_compared_by_their_last_predictions(runs, capsys):
  call(compare=[str(runs / "a"), str(runs / "b")])
  said = capsys.readouterr().out
  assert f"A: {runs}/a\nB: {runs}/b\n" in said
  assert re.search(r"val +mean score +0.000 +1.000 +\+1.000 .* 4$", said, re.M)


def test_folders_and_files_are_compared_alike(runs, capsys):
  wanted = None
  for name in ("", "predictions", "predictions/val-000000100.jsonl"):
    call(compare=[str(runs / "a" / name), str(runs / "b" / name)])
    table = capsys.readouterr().out.split("\n", 2)[2]
    wanted = wanted or table
    assert table == wanted


def test_captions_are_compared_by_the_metric_of_the_runs_config(runs, capsys):
  for name, said in (("a", "red dot"), ("b", "blue ring on the left")):
    rows = answers(said, 9)
    for row in rows:
      row["truth"] = f"{row['index']} blue ring on the left"
      del row["score"]
    path = runs / name / "predictions/val-000000100.jsonl"
    records.write(str(path), rows)
  pair = [str(runs / "a"), str(runs / "b")]
  call(compare=pair)
  assert "no config that names its metric" in capsys.readouterr().out
  config = {"evals": {"val": {"metric": "captions"}}}
  (runs / "b/config.json").write_text(json.dumps(config))
  call(compare=pair)
  assert re.search("val +rouge", capsys.readouterr().out)


def test_a_submission_is_made_of_predictions(runs, capsys):
  out = runs / "new/test.json"
  path = str(runs / "a/predictions/val-000000020.jsonl")
  call(predictions=[path], submit=["vqav2"], out=str(out))
  want = [{"question_id": i, "answer": "older"} for i in range(4)]
  assert json.loads(out.read_text()) == want
  assert str(out) in capsys.readouterr().out


def test_several_files_make_one_submission(runs):
  out = runs / "test.json"
  both = [str(runs / "a"), str(runs / "b")]
  call(predictions=both, submit=["aokvqa_da", "aokvqa_mc"], out=str(out))
  want = {"direct_answer": "y", "multiple_choice": "x"}
  assert json.loads(out.read_text()) == {str(i): want for i in range(4)}
  with pytest.raises(ValueError, match="v:0 and v:0 are both 0"):
    call(predictions=both, submit=["vqav2"], out=str(out))


def test_the_page_is_made_of_predictions(runs):
  out = runs / "page.html"
  call(predictions=[str(runs / "a"), str(runs / "b")], out=str(out))
  text = out.read_text()
  assert text.count('"prediction": "y"') == text.count('"prediction": "x"') == 4
  assert f'"evaluator": "{runs}/b: val"' in text


@pytest.mark.parametrize(
  "given, message",
  [
    ({}, "wanted a --checkpoint, --compare or --predictions"),
    (dict(checkpoint="nowhere"), "nowhere is no run with a config of its own"),
    (dict(config="c"), "nothing to evaluate; add --checkpoint"),
    (dict(compare=["a"]), "--compare got 1 run without a --config; it takes"),
    (dict(compare=["a", "nowhere"]), "no predictions in .*nowhere; wanted"),
    (dict(predictions=["a"]), "say which with --out"),
    (dict(config="c", out="o"), "--out and --submit go with --predictions"),
    (dict(compare=["a", "b"], submit=["vqav2"]), "go with --predictions"),
    (
      dict(predictions=["a"], submit=["vqa2"], out="o"),
      'unknown submission format "vqa2"; did you mean "vqav2"',
    ),
    (
      dict(predictions=["a"], submit=["vqav2", "gqa"], out="o"),
      "2 formats for 1 files",
    ),
  ],
)
def test_a_wrong_call_says_what_was_wanted(runs, monkeypatch, given, message):
  monkeypatch.chdir(runs)
  with pytest.raises(ValueError, match=message):
    call(**given)
  assert not (runs / "o").exists()


def test_a_folder_of_two_evaluators_is_no_submission(runs):
  records.write(str(runs / "a/predictions/test-000000100.jsonl"), answers())
  with pytest.raises(ValueError, match="of test, val; name the file of one"):
    call(predictions=[str(runs / "a")], submit=["vqav2"], out="o")


@pytest.fixture
def evaluated(monkeypatch):
  """Stands in for running models; lists what was evaluated where."""
  calls = []

  def run(c, path, workdir, pp, quantize=None, logits=None):
    calls.append((path, workdir))
    if logits is not None:
      far = 3 + 0.5 * np.eye(4, 5)[:, ::-1]  # 3 is no difference
      logits["val"] = np.eye(4, 5) + (far if quantize else 0)
    os.makedirs(workdir, exist_ok=True)
    found = answers("y" if path == "other" else "x")
    result = functools.partial(evals_run.Result, {}, {}, {}, {})
    return {"val": result(found, 4), "nll": result([], 4)}

  monkeypatch.setattr(evaluate, "evaluate", run)
  return calls


def config():
  return ml_collections.ConfigDict(
    {"evals": {"val": {"metric": "exact"}}, "lora": {"rank": 0}}
  )


def test_a_checkpoint_is_compared_with_one_that_is_evaluated_too(
  runs, evaluated, capsys
):
  out = str(runs / "out")
  call(config(), checkpoint="new", workdir=out, compare=["other"])
  assert evaluated == [("new", out), ("other", f"{out}/compared")]
  said = capsys.readouterr().out
  assert "A: other\nB: new\n" in said
  assert re.search(r"val +mean score +0.000 +1.000 ", said)
  assert '"prediction": "x"' in (runs / "out/predictions.html").read_text()


def test_a_checkpoint_is_compared_with_predictions_that_are_there(
  runs, evaluated, capsys
):
  out, other = str(runs / "out"), str(runs / "a")
  call(config(), checkpoint="new", workdir=out, compare=[other])
  assert evaluated == [("new", out)]
  assert f"A: {other}\nB: new\n" in capsys.readouterr().out
  for wrong in (["a", "b"], [str(runs / "nowhere.jsonl")]):
    with pytest.raises((ValueError, OSError), match="takes one|nowhere"):
      call(config(), checkpoint="new", workdir=out, compare=wrong)
  assert len(evaluated) == 1  # before anything is run


def test_what_quantising_costs_is_told_of_both_models(runs, evaluated, capsys):
  out, other = str(runs / "out"), str(runs / "a")  # with predictions, too
  how = dict(workdir=out, quantize="int8")
  call(config(), checkpoint="new", compare=[other], **how)
  assert evaluated == [("new", out), (other, f"{out}/compared")]
  said = capsys.readouterr().out
  assert f"A: {other}\nB: new, in int8\n" in said
  assert re.search(r"val +50.00% +100.00% +4$", said, re.M)
  call(config(), checkpoint="new", compare=["other"], **how)
  assert re.search(r"val +50.00% +0.00% +4$", capsys.readouterr().out, re.M)


COARSE = "decode | resize(224, antialias=False)"
BICUBIC = "decode(exif=True) | resize(224, flavour='hf')"


@pytest.fixture
def seen(monkeypatch):
  """Returns {evaluator: how it sees images} of a config and a checkpoint."""

  def call(name, record, pp=None, res=224):
    weights = opened.Weights("x", io.BytesIO(), variants.VARIANTS["pg1_3b"])
    weights.pp = record
    monkeypatch.setattr(load, "open", lambda _: weights)
    c = config_lib.load(f"{paths.ROOT}/transfers/{name}.py:res={res}")
    with c.unlocked():
      evaluate.see_as(c, pp)
    strings = {k: task.pipeline_of(c, how) for k, how in c.evals.items()}
    return {k: flavours.of_pipeline(s, res) for k, s in strings.items()}

  return call


def test_an_evaluator_sees_images_as_its_checkpoint_does(seen):
  assert seen("forkme", BICUBIC) == dict(val=BICUBIC, nll=BICUBIC)
  at_448 = BICUBIC.replace("224", "448")
  assert seen("forkme", BICUBIC, res=448) == dict(val=at_448, nll=at_448)


def test_without_a_record_or_with_its_own_a_config_is_as_published(seen):
  published = seen("cococap", None)
  assert set(published.values()) == {COARSE}
  assert seen("cococap", COARSE) == published


def test_what_a_recipe_evaluates_otherwise_than_it_trains_stays(seen):
  # Trained with antialias and evaluated without, by other people.
  assert seen("ai2d", BICUBIC)["test"] == COARSE
  assert seen("vqav2", BICUBIC)["pope"] == COARSE
  assert seen("vqav2", BICUBIC)["test"] == BICUBIC


def test_a_way_that_is_named_is_that_of_all_evaluators(seen):
  assert set(seen("vqav2", COARSE, "hf").values()) == {
    flavours.named("hf", 224)
  }
  assert set(seen("vqav2", None, BICUBIC).values()) == {BICUBIC}
  assert seen("vqav2", BICUBIC, "config") == seen("vqav2", None)


def test_the_step_is_that_of_what_was_read_while_the_run_goes_on(
  tmp_path, monkeypatch, capsys
):
  state, used = {"params": {"a": jnp.zeros(2)}}, []

  def save(step):
    with saver.Manager(tmp_path) as manager:
      manager.save(step, state, {"step": step})

  def read(path, *_):
    used.append(pathlib.Path(path).name)
    save(20)

  def run(tasks, *rest):
    used.append(rest[-3])
    return {}

  opened = mock.MagicMock(tasks=[mock.Mock()])
  opened.tasks[0].name = "val"
  monkeypatch.setattr(evaluate.experiment, "open", lambda _: opened)
  monkeypatch.setattr(evaluate.experiment, "baseline", lambda _: None)
  monkeypatch.setattr(evaluate, "see_as", lambda *_: None)
  monkeypatch.setattr(evaluate.parameters, "to_evaluate", read)
  monkeypatch.setattr(evals_run, "evaluate", run)
  c = config()
  c.sharding = ()
  save(10)
  evaluate.evaluate(c, str(tmp_path), str(tmp_path))
  assert used == ["10", 10]
  assert f"loading {tmp_path}\n" in capsys.readouterr().err
