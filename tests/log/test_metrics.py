"""A run's numbers on disk: nothing is lost, doubled or torn."""

import io
import json
import math
import resource
import struct
import sys

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto import event_pb2

from pg.log import metrics

BOARD = {"wandb": "mine"}


def steps(workdir):
  return [row["step"] for row in metrics.read(workdir / "metrics.jsonl")]


def events(path):
  """Reads TensorBoard's records: length, checksum, event, checksum."""
  data, found = path.read_bytes(), []
  while data:
    (length,) = struct.unpack("<Q", data[:8])
    found.append(event_pb2.Event.FromString(data[12 : 12 + length]))
    data = data[16 + length :]
  return found


def test_metrics_are_read_as_written(tmp_path):
  with metrics.MetricWriter(tmp_path) as writer:
    writer.write(1, {"train/loss": np.float32(0.5), "train/examples": 64})
    writer.write(2, {"val/exact": 0.25})
  assert metrics.read(tmp_path / "metrics.jsonl") == [
    {"step": 1, "train/loss": 0.5, "train/examples": 64},
    {"step": 2, "val/exact": 0.25},
  ]
  first, _ = (tmp_path / "metrics.jsonl").read_text().splitlines()
  assert first == '{"step": 1, "train/loss": 0.5, "train/examples": 64}'


def test_a_line_is_on_disk_when_write_returns(tmp_path):
  writer = metrics.MetricWriter(tmp_path)
  writer.write(1, {"loss": 2.0})
  assert (tmp_path / "metrics.jsonl").read_bytes().endswith(b"}\n")
  writer.close()


def test_values_that_are_not_finite_survive_as_valid_json(tmp_path):
  values = {"a": math.nan, "b": math.inf, "c": -math.inf}
  with metrics.MetricWriter(tmp_path) as writer:
    writer.write(1, values)
  line = (tmp_path / "metrics.jsonl").read_text()
  assert json.loads(line, parse_constant=pytest.fail)["a"] == "nan"
  (row,) = metrics.read(tmp_path / "metrics.jsonl")
  assert math.isnan(row["a"]) and (row["b"], row["c"]) == (math.inf, -math.inf)


@pytest.mark.parametrize("value", [[0.5, 0.25], np.zeros(2), None, "high"])
def test_a_metric_that_is_not_one_number_is_refused(tmp_path, value):
  with metrics.MetricWriter(tmp_path) as writer:
    with pytest.raises(ValueError, match="'bleu' must be one number"):
      writer.write(1, {"bleu": value})
    with pytest.raises(ValueError, match="rename"):
      writer.write(1, {"step": 1})
  assert steps(tmp_path) == []


def test_resuming_neither_doubles_nor_loses_a_line(tmp_path):
  with metrics.MetricWriter(tmp_path) as writer:
    for step in range(1, 8):
      writer.write(step, {"loss": step})
  with metrics.MetricWriter(tmp_path, resume_step=5) as writer:
    assert steps(tmp_path) == [1, 2, 3, 4, 5]
    for step in range(6, 10):
      writer.write(step, {"loss": step})
  assert steps(tmp_path) == list(range(1, 10))


def test_a_run_that_starts_anew_forgets_the_old_one(tmp_path):
  for _ in range(2):
    with metrics.MetricWriter(tmp_path, resume_step=0) as writer:
      writer.write(1, {"loss": 1.0})
  assert steps(tmp_path) == [1]


def test_a_kill_while_resuming_leaves_the_old_file(tmp_path, monkeypatch):
  with metrics.MetricWriter(tmp_path) as writer:
    writer.write(1, {"loss": 1.0})
    writer.write(2, {"loss": 1.0})

  def die(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr("os.replace", die)
  with pytest.raises(KeyboardInterrupt):
    metrics.MetricWriter(tmp_path, resume_step=1)
  assert steps(tmp_path) == [1, 2]


@pytest.mark.parametrize(
  "torn, kept",
  [
    (b'{"step": 3, "lo', [1, 2]),
    (b"\0\0\0\0", [1, 2]),
    (b'{"step": 3, "loss": 1.0}', [1, 2, 3]),  # only the line break is gone
  ],
)
def test_a_torn_last_line_is_repaired_on_opening(tmp_path, torn, kept):
  with metrics.MetricWriter(tmp_path) as writer:
    writer.write(1, {"loss": 1.0})
    writer.write(2, {"loss": 1.0})
  with open(tmp_path / "metrics.jsonl", "ab") as file:
    file.write(torn)
  assert steps(tmp_path) == kept
  with metrics.MetricWriter(tmp_path) as writer:
    writer.write(4, {"loss": 1.0})
  assert steps(tmp_path) == [*kept, 4]


def test_a_broken_line_inside_is_named(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_text('{"step": 1}\noops\n{"step": 2}\n')
  with pytest.raises(ValueError, match=r"metrics.jsonl:2 .*oops"):
    metrics.read(path)


def test_a_full_disk_raises_and_leaves_whole_lines(tmp_path):
  old = resource.getrlimit(resource.RLIMIT_FSIZE)
  with metrics.MetricWriter(tmp_path) as writer:
    writer.write(1, {"loss": 1.0})
    before = (tmp_path / "metrics.jsonl").read_bytes()
    # Ten bytes more fit: the system takes a part of the line.
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, old[1]))
    try:
      with pytest.raises(OSError, match="step 2 .*before is intact"):
        writer.write(2, {"loss": 1.0})
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    writer.write(2, {"loss": 1.0})
  assert steps(tmp_path) == [1, 2]


def test_tensorboard_gets_pictures(tmp_path):
  picture = np.full((20, 30, 3), 200, np.uint8)
  with metrics.MetricWriter(tmp_path) as writer:
    writer.pictures(6, "val", {"3": picture})
    writer.pictures(6, "test", {})
  (path,) = (tmp_path / "tensorboard").iterdir()
  event = events(path)[-1]
  (value,) = event.summary.value
  assert (event.step, value.tag) == (6, "val/predictions/3")
  shown = Image.open(io.BytesIO(value.image.encoded_image_string))
  assert (value.image.height, value.image.width) == (20, 30)
  np.testing.assert_allclose(np.asarray(shown), picture, atol=2)


def test_weights_and_biases_that_is_not_there_is_named(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "wandb", None)
  with pytest.raises(ValueError, match="config.wandb is 'mine', but wandb is"):
    metrics.MetricWriter(tmp_path, config=BOARD)


def test_weights_and_biases_gets_a_copy_of_one_run(tmp_path, monkeypatch):
  wandb = pytest.importorskip("wandb", reason="needs requirements-wandb.txt")
  monkeypatch.setenv("WANDB_MODE", "offline")
  for step in (1, 2):
    with metrics.MetricWriter(tmp_path, step - 1, config=BOARD) as writer:
      writer.write(step, {"train/loss": 0.5 * step})
      writer.pictures(step, "val", {"3": np.zeros((8, 8, 3), np.uint8)})
  wandb.teardown()  # waits until all is written
  first, second = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"))
  assert first.name == second.name  # run-ID.wandb
  for path in (first, second):
    assert b"train/loss" in path.read_bytes()
  shown = tmp_path.glob(
    "wandb/offline-run-*/files/media/images/val/predictions/*.png"
  )
  assert len(list(shown)) == 2


def test_other_processes_write_nothing(tmp_path):
  run = tmp_path / "run"
  with metrics.MetricWriter(run, enabled=False, config=BOARD) as writer:
    writer.write(1, {"loss": 1.0})
    writer.pictures(1, "val", {"0": np.zeros((8, 8, 3), np.uint8)})
  assert not (tmp_path / "run").exists()


def test_tensorboard_gets_the_values_and_drops_what_is_logged_again(tmp_path):
  for resume_step in (None, 5):
    with metrics.MetricWriter(tmp_path, resume_step=resume_step) as writer:
      writer.write(6, {"loss": 0.5})
  first, second = sorted((tmp_path / "tensorboard").iterdir())
  value = events(first)[-1].summary.value[0]
  assert (events(first)[-1].step, value.tag, value.simple_value) == (
    6,
    "loss",
    0.5,
  )
  # TensorBoard hides what has this step or a later one in older files.
  (purge,) = [e for e in events(second) if e.HasField("session_log")]
  assert purge.step == 6
  assert purge.session_log.status == event_pb2.SessionLog.START
