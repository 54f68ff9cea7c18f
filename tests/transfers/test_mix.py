"""The mixture of transfers is of what was prepared."""

import pytest

from pg import config, pp
from pg.data import pipeline, stream
from pg.evals import task
from tests.support import transfer_rows
from tests.support.tiny import ROOT

FILE = f"{ROOT}/transfers/mix.py"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  made = transfer_rows.Data(tmp_path_factory.mktemp("mix"))
  for row in ("vqav2", "chartqa", "refcoco_seg"):
    made.prepare(row)
  return made


@pytest.fixture
def mix(data):
  with pytest.warns(UserWarning, match="not in the mixture: .*/data/ai2d, "):
    return config.load(f"{FILE}:res=24,codec=nano,data={data.root}/data")


def test_only_what_is_prepared_is_in_it(mix):
  assert set(mix.data) == {
    "chartqa_augmented",
    "chartqa_human",
    "refcoco_seg",
    "vqav2",
  }
  assert {t.name for t in task.tasks(mix)} == {"pope", "mmvp"}


def test_without_any_data_all_tasks_are_asked_for():
  c = config.load(f"{FILE}:data=/nowhere")
  assert len(c.data) == 23 - 2 + 35 + 2
  with pytest.raises(ValueError, match="python -m scripts.prepare.ai2d"):
    pipeline.datasets(c.data, c.pp)


def test_weights_are_sizes_whatever_a_recipe_weighs_inside():
  c = config.load(f"{FILE}:data=/nowhere")
  languages = [d.weight for k, d in c.data.items() if k.startswith("coco35l")]
  assert languages == [pytest.approx(600 / 35)] * 35
  human, augmented = c.data.chartqa_human, c.data.chartqa_augmented
  assert human.weight + augmented.weight == pytest.approx(30)
  assert human.weight / augmented.weight == pytest.approx(7398 / 20901)


def test_a_prompt_says_what_is_asked_for(data, mix):
  made = {}
  for dataset in pipeline.datasets(mix.data, mix.pp):
    example = stream.read(dataset, 0, pp.Turn(), dict)
    made[dataset.name] = example["prefix"].split()[0], example["image"].shape
  assert made == {
    "chartqa_augmented": ("answer", (24, 24, 3)),
    "chartqa_human": ("answer", (24, 24, 3)),
    "refcoco_seg": ("segment", (24, 24, 3)),
    "vqav2": ("answer", (24, 24, 3)),
  }
