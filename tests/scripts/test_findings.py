"""Findings: their runs, and the intervals of their differences."""

import json
import pathlib

import pytest

from pg import config
from scripts import findings, story


@pytest.mark.parametrize("name", findings.NAMES)
def test_its_config_is_valid_for_each_arm_and_the_arms_differ(name):
  made = []
  for arm in findings.load(name).ARMS:
    c = config.load(f"configs/findings/{name}.py:arm={arm}")
    config.validate(c)
    assert c.arg.size == "nano"
    made.append({k: v for k, v in c.to_dict().items() if k != "arg"})
  assert all(made.count(c) == 1 for c in made)


def test_what_others_start_from_is_trained_first_and_once():
  runs = findings.plan(["skip_stage1", "prompt"], 2, "runs/f", 0.5)
  arms = ["prompt/full", "skip_stage1/after", "skip_stage1/skipped"]
  arms += ["prompt/causal", "prompt/learned"]
  assert list(runs) == [f"{arm}/seed{s}" for arm in arms for s in (0, 1)]
  file, words = runs["skip_stage1/after/seed1"]
  assert file.endswith(".py:arm=after,scale=0.5,init=runs/f/prompt/full/seed1")
  assert words == ["--config.seed", "3"]


@pytest.mark.parametrize(
  "names, seeds, said",
  ((["promt"], 2, 'did you mean "prompt"'), (["prompt"], 1, "takes 2 or more")),
)
def test_what_makes_no_sense_is_refused(names, seeds, said):
  with pytest.raises(ValueError, match=said):
    findings.plan(names, seeds, "runs/f", 0.5)


def test_differences_are_of_pairs_with_student_s_interval():
  # Mean -2, deviation 1 of three: half the interval is 4.303 / sqrt(3).
  found = findings.compare(dict(a=[5.0, 6.0, 9.0], b=[2.0, 4.0, 8.0]))
  mean, gap, half = found["b"]
  assert (mean, gap) == (pytest.approx(14 / 3), -2.0)
  assert half == pytest.approx(4.303 / 3**0.5, abs=1e-3)
  assert found["a"][:2] == (pytest.approx(20 / 3), None)


def test_the_table_is_of_the_scores_of_complete_runs(tmp_path, monkeypatch):
  def train(words, workdir, deadline):
    folder = pathlib.Path(workdir)
    folder.mkdir(parents=True)
    seed = int(words[-1]) // 2
    value = 0.5 + 0.1 * seed - 0.2 * ("causal" in words[0])
    made = dict(
      caption=dict(exact=dict(value=value)),
      count=dict(accuracy=dict(value=1 - value), mae=dict(value=9.0)),
      detect=dict(iou=dict(value=value)),
      nll=dict(nll=dict(value=0.1)),
    )
    (folder / "scores.json").write_text(json.dumps(made))
    return True

  monkeypatch.setattr(story, "_train", train)
  runs = findings.plan(["prompt"], 2, str(tmp_path), 1.0)
  assert story.train_all(runs, tmp_path, 0.0)
  lines = findings.table(["prompt"], 2, tmp_path).splitlines()
  assert lines[2] == "| prompt | full | 51.7 |  |"
  assert lines[3] == "| prompt | causal | 45.0 | -6.7 ± 0.0 |"
