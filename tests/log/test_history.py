"""What changed between two starts of a run is refused or said."""

import json
import pathlib
import re
import types

import pytest

from pg import tree
from pg.data import pipeline
from pg.log import history
from tests.support import numbers, numbers_run, turns
from transfers import base

form, registered = numbers.form, numbers.registered

DATA = dict(
  a=dict(source="numbers", size=10, weight=3), b=dict(source="numbers")
)


def opened(form, *, data=(), change=()):
  """Returns a config and its run, after changes of dataset a and of keys."""
  c = numbers_run.config()
  with c.unlocked():
    c.data = {"a": DATA["a"] | dict(data), "b": DATA["b"]}
    c.pp = "decode"
    for key, value in dict(change).items():
      *parents, leaf = key.split(".")
      node = c
      for name in parents:
        node = node[name]
      with node.ignore_type():
        node[leaf] = value
  data = pipeline.datasets(c.data, c.pp)
  tasks = [types.SimpleNamespace(data=data[0]._replace(name="evals.a"))]
  return c, types.SimpleNamespace(data=data, form=form, tasks=tasks)


def describe(form, **changes):
  return history.describe(*opened(form, **changes))


def check(was, now, total=500, *, accept=False, step=100):
  meta = json.loads(json.dumps(dict(step=step, run=was)))
  return history.check(meta, now, total, "runs/mine", accept=accept)


SAME = dict(changed=[], accepted=[], unknown=[])


def test_nothing_has_changed(form):
  assert check(describe(form), describe(form)) == SAME


@pytest.mark.parametrize(
  "change, line",
  [
    (dict(lr=2e-4), "lr was 0.001, is 0.0002"),
    (dict(total=300), "total was 6, is 300"),
    (dict(schedule=[[".*", "linear"]]), "schedule was .* is .*linear.*"),
    ({"evals.nll.num_examples": 9}, "evals.nll.num_examples was 11, is 9"),
    ({"evals": {}}, "evals.caption.bad was .*, is not set"),
    ({"input.num_threads": 9}, "input.num_threads was 4, is 9"),
    ({"bad.policy": "raise"}, "bad.policy was 'skip', is 'raise'"),
    ({"model.dropout": 0.1}, "model.dropout was 0.0, is 0.1"),
    ({"mesh.fsdp": 1}, "mesh.fsdp was -1, is 1"),
  ],
)
def test_what_one_may_change_is_said(form, change, line):
  lr = dict(lr=1e-3)
  was, now = describe(form, change=lr), describe(form, change=lr | change)
  found = check(was, now)
  assert any(map(re.compile(line).match, found["changed"]))
  assert found | dict(changed=[]) == SAME


@pytest.mark.parametrize(
  "what, line",
  [
    (dict(data=dict(weight=2)), "data.a.weight was 3, is 2"),
    (dict(data=dict(size=11)), "data.a.len was 10, is 11"),
    (dict(data=dict(pp="draw")), "data.a.pp was 'decode', is 'draw'"),
    (dict(data=dict(start=1)), "data.a.start was not set, is 1"),
    (
      dict(data=dict(start=1)),
      "data.a: 10 of 10 rows that were looked at are other ones, the first of"
      " them row 0",
    ),
    (dict(change=dict(seed=1)), "seed was 0, is 1"),
    (dict(change=dict(batch_size=4)), "batch_size was 8, is 4"),
    (dict(change=dict(text_len=7)), "text_len was 10, is 7"),
    (dict(change=dict(res=16)), "res was 8, is 16"),
    (dict(change=dict(num_images=2)), "num_images was 1, is 2"),
    (dict(change=dict(blind=True)), "blind was False, is True"),
    (dict(change={"model.variant": "nano2"}), "model.variant was 'nano', is "),
    (
      dict(change=dict(init="runs/b")),
      "init was '', is 'runs/b'; a run that has begun does not read it",
    ),
  ],
)
def test_what_makes_another_run_of_it_is_refused(form, what, line):
  was, now = describe(form), describe(form, **what)
  with pytest.raises(ValueError) as refused:
    check(was, now)
  head, *lines, advice = str(refused.value).splitlines()
  assert head.startswith("runs/mine is at step 100 of a run that was another")
  assert any(said.startswith(f"  {line}") for said in lines)
  assert "--accept-changes" in advice and "--config.init" in advice
  found = check(was, now, accept=True)
  assert found["accepted"] == [said.removeprefix("  ") for said in lines]


def test_adapters_may_find_the_same_weights_elsewhere(form):
  lora = dict(change={"lora.rank": 2})
  now = dict(change={"lora.rank": 2, "init": "runs/b"})
  found = check(describe(form, **lora), describe(form, **now))
  assert found["changed"] == [
    "init was '', is 'runs/b', which has to hold the same values"
  ]


def test_a_dataset_more_or_in_another_place_is_refused(form):
  was = describe(form)
  now = dict(was, data={"b": was["data"]["b"]})
  with pytest.raises(ValueError, match="data.a.source was 'numbers', is not"):
    check(was, now)
  a, b = was["data"].values()
  now = dict(was, data={"a": a | {"number": 1}, "b": b | {"number": 0}})
  with pytest.raises(ValueError, match="data.a.number was 0, is 1"):
    check(was, now)


def test_other_files_and_another_tokenizer_are_refused(form):
  was = describe(form)
  a = was["data"]["a"]
  files = dict(was, data=was["data"] | {"a": a | {"files": "0"}})
  with pytest.raises(ValueError, match="data.a: its files hold other bytes"):
    check(was, files)
  other = types.SimpleNamespace(tok=types.SimpleNamespace(path=__file__))
  with pytest.raises(ValueError, match="file of the tokenizer is another"):
    check(was, describe(other))


def test_a_row_that_could_not_be_read_is_not_another_one(form):
  was = describe(form, data=dict(bad=[3]))
  rows = was["data"]["a"]["rows"]
  now = dict(was, data=was["data"] | {"a": was["data"]["a"] | {"rows": {}}})
  assert len(rows) == 9 and check(was, now) == check(now, was) == SAME


@pytest.mark.parametrize("total, refused", [(99, 1), (100, 0), (0, 0)])
def test_a_total_that_is_behind_the_run_is_refused(form, total, refused):
  now = describe(form)
  found = check(now, now, total, accept=True)
  assert len(found["accepted"]) == refused
  if refused:
    line = "total is 99 steps, and the run is at step 100 already"
    assert found["accepted"] == [line]
    with pytest.raises(ValueError, match=line):
      check(now, now, total)


def test_every_key_of_a_config_is_of_a_kind_that_was_thought_of():
  keys = set(tree.flatten(json.loads(base.get().to_json())))
  refused = {k for k in keys if not history._FREE.fullmatch(k)}
  refused = {k for k in refused if not k.startswith("arg/")}
  assert refused == {
    *("batch_size", "blind", "init", "num_images", "optimizer", "res", "seed"),
    *("text_len", "length_window", "tokenizer", "moment_dtype", "frozen_dtype"),
    *("ema", "nonfinite/policy", "init_optimizer", "dont_load"),
    *(f"lora/{k}" for k in ("alpha", "dora", "rank", "rank_stabilized")),
    *("lora/targets", "prompt"),
    *("model/final_softcap", "model/variant", "model/window"),
  }


def test_a_key_that_another_version_has_more_is_said(form):
  now = describe(form)
  # Its absence means the default.
  assert check(now, dict(now, moment_dtype="float32")) == SAME
  found = check(now, dict(now, num_microbatches=2))
  assert found["changed"] == ["num_microbatches was 1, is 2"]
  found = check({k: v for k, v in now.items() if k != "blind"}, now)
  assert found["changed"] == ["blind was not set, is False"]
  assert not found["accepted"]


def older(form, workdir, **config):
  """Returns the meta of a checkpoint of the version before."""
  now = describe(form)
  data = {
    name: {k: v for k, v in spec.items() if k in ("source", "size", "len")}
    | dict(pp="decode", weight=spec["weight"], bytes={"/a": 3}, path="/a")
    for name, spec in now["data"].items()
  }
  return dict(
    step=100,
    next_example=800,
    counts={},
    data=dict(seed=0, batch_size=8, datasets=data),
  )


def test_an_earlier_checkpoint_goes_on_and_says_what_is_not_known(
  form, tmp_path
):
  meta, now = older(form, tmp_path), describe(form)
  resume = lambda now: history.check(meta, now, 500, tmp_path, accept=False)
  found = resume(now)
  assert found["changed"] == [] == found["accepted"]
  (unknown,) = found["unknown"]
  assert "bytes of its data and its tokenizer, and its config were" in unknown
  with pytest.raises(ValueError, match="seed was 0, is 1"):
    resume(describe(form, change=dict(seed=1)))
  with pytest.raises(ValueError, match="data.a.len was 10, is 11"):
    resume(describe(form, data=dict(size=11)))
  config = numbers_run.config(lr=1e-3).to_json()
  pathlib.Path(tmp_path, "config.json").write_text(config)
  found = resume(describe(form, change=dict(lr=1e-4)))
  assert found["changed"] == ["lr was 0.001, is 0.0001"]
  assert "tokenizer were not compared" in found["unknown"][0]
  with pytest.raises(ValueError, match="text_len was 10, is 7"):
    resume(describe(form, change=dict(text_len=7)))


def test_the_history_has_a_line_for_each_start(tmp_path, monkeypatch):
  monkeypatch.setattr(history.origin, "command", lambda: "python -m pg.train")
  monkeypatch.setattr(history.origin, "commit", lambda: "8c51b51a0c1d")
  lr = dict(SAME, changed=["lr was 1, is 2"])
  for step, found in enumerate(({}, lr)):
    history.write(tmp_path, step, found)
  rows = [json.loads(x) for x in (tmp_path / history.FILE).open()]
  assert all(row.pop("time")[-6:] == "+00:00" for row in rows)
  start = dict(command="python -m pg.train", commit="8c51b51a0c1d")
  assert rows == [dict(start, step=0), dict(start, step=1, **lr)]


@pytest.mark.parametrize(
  "changes, said",
  [
    ({}, ""),
    (dict(data=dict(size=11)), "data.a.len was 10, is 11\n"),
    (dict(data=dict(bad=[5])), r"data.evals.a.bad was not set, is \[5\]"),
    (dict(change={"lr": 2.0}), "lr was 0.0015, is 2.0"),
  ],
)
def test_processes_of_a_job_see_the_same(form, changes, said, monkeypatch):
  job = turns.Turns(monkeypatch)
  history.check_same(*opened(form))
  job.process = 1
  if not said:
    return history.check_same(*opened(form))
  with pytest.raises(ValueError, match="does not see what process 0 does") as e:
    history.check_same(*opened(form, **changes))
  assert re.search(said, f"{e.value}\n")


RATES = {"train/lr": lambda step: 0.5 / (step + 1)}
CURVE = ((".*", dict(kind="rsqrt", start=100)),)


def meta_of(was, **changes):
  """Returns the meta of a checkpoint that another run is to go on from."""
  told = dict(examples=900, spent={"time/total": 3.0}, rates={"train/lr": 0.5})
  found = dict(step=100, run=was, **told) | changes
  return json.loads(json.dumps(found))


def test_a_run_begins_with_what_the_one_before_has_cost(form):
  was, now = describe(form), describe(form, change=dict(schedule=CURVE))
  begun = dict(examples=900, spent={"time/total": 3.0})
  assert history.begun(meta_of(was), now, RATES, "runs/a") == begun
  older = {"step": 100, "run": was}  # of the version before
  begun = dict(examples=100 * was["batch_size"], spent={})
  assert history.begun(older, now, RATES, "runs/a") == begun


@pytest.mark.parametrize(
  "told, said",
  (
    (
      dict(rates={"train/lr": 0.6}),
      r"runs/a, which is at step 100 of \d+ .*lr\) of 0.6; the .* from 0.5",
    ),
    # The highest of each part, where they differ.
    (
      dict(rates={"train/lr/img": 0.4, "train/lr/llm": 0.5}),
      r"train/lr/img\) of 0.4; .* Train that one to its end, or set `start`",
    ),
  ),
)
def test_a_curve_that_does_not_go_on_is_refused(form, told, said):
  was, now = describe(form), describe(form, change=dict(schedule=CURVE))
  with pytest.raises(ValueError, match=said):
    history.begun(meta_of(was, **told), now, RATES, "runs/a")
  # Without a `start` the schedule is one that starts anew.
  history.begun(meta_of(was, **told), describe(form), RATES, "runs/a")
  warms_up = {"train/lr": lambda step: 0.0}
  history.begun(meta_of(was, **told), now, warms_up, "runs/a")


def test_a_run_goes_on_with_its_own_model_and_tokenizer(form):
  now = describe(form)
  was = dict(now, model=dict(now["model"], variant="pg2_3b"))
  said = "runs/a, which is of the model 'pg2_3b', and this run of 'nano'"
  with pytest.raises(ValueError, match=said):
    history.begun(meta_of(was), now, RATES, "runs/a")
  was = dict(now, tokenizer="0123456789abcdef")
  with pytest.raises(ValueError, match="runs/a, which has another tokenizer"):
    history.begun(meta_of(was), now, RATES, "runs/a")
