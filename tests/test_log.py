"""What a run writes for people: numbers, a progress line, boxes on images."""

import io
import json
import math
import resource
import struct

import jax
import ml_dtypes
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from pg.log import draw, metrics, progress


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

  monkeypatch.setattr(metrics.os, "replace", die)
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


def test_other_processes_write_nothing(tmp_path):
  with metrics.MetricWriter(tmp_path / "run", enabled=False) as writer:
    writer.write(1, {"loss": 1.0})
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


def test_the_progress_line_is_as_documented():
  line = progress.format_line(1200, 3000, 0.5321, 183.2, 0.018, 190)
  assert line == (
    "step 1200/3000 40% | loss 0.532 | 183 examples/s | data wait 2% | ETA"
    " 3m10s"
  )
  line = progress.format_line(2999, 3000, math.nan, 0.52, math.nan, math.nan)
  assert line == "step 2999/3000 99% | loss nan | 0.5 examples/s"


@pytest.mark.parametrize(
  "seconds, text",
  [
    (0, "0s"),
    (59.4, "59s"),
    (59.6, "1m00s"),
    (190, "3m10s"),
    (7500, "2h05m"),
    (86400 * 3 + 3600 * 4, "3d04h"),
  ],
)
def test_durations_have_two_units(seconds, text):
  assert progress.duration(seconds) == text


class Terminal(io.StringIO):
  def isatty(self):
    return True


def run_progress(stream, seconds, **kw):
  """Runs ten steps of `seconds` each, half of it spent waiting for data."""
  now = [0.0]
  shown = progress.Progress(10, 8, stream=stream, clock=lambda: now[0], **kw)
  for step in range(1, 11):
    now[0] += seconds
    shown.update(step, 1.0, waited=seconds / 2)
  return shown


def test_progress_tells_speed_waiting_and_time_left_from_the_clock():
  stream = io.StringIO()
  run_progress(stream, 4.0, every=16.0)
  assert stream.getvalue().splitlines() == [
    "step 1/10 10% | loss 1.000",
    "step 5/10 50% | loss 1.000 | 2.0 examples/s | data wait 50% | ETA 20s",
    "step 9/10 90% | loss 1.000 | 2.0 examples/s | data wait 50% | ETA 4s",
    "step 10/10 100% | loss 1.000 | 2.0 examples/s | data wait 50% | ETA 0s",
  ]


def test_progress_forgets_what_is_longer_ago_than_its_window():
  stream, now = io.StringIO(), [0.0]
  shown = progress.Progress(100, 1, stream=stream, clock=lambda: now[0])
  for step in range(1, 101):
    now[0] += 1.0 if step > 50 else 10.0
    shown.update(step, 1.0)
  lines = stream.getvalue().splitlines()
  assert "| 0.1 examples/s |" in lines[10]
  assert "| 1.0 examples/s |" in lines[-1]


def test_an_evaluation_does_not_count_as_slow_training():
  stream, now = io.StringIO(), [0.0]
  shown = progress.Progress(4, 8, stream=stream, clock=lambda: now[0])
  for step, second in enumerate([1, 2, 900, 901], start=1):
    now[0] = second
    if second == 900:
      shown.restart()
    shown.update(step, 1.0)
  assert "| 8.0 examples/s |" in stream.getvalue().splitlines()[-1]


def test_progress_rewrites_one_line_on_a_terminal():
  stream = Terminal()
  shown = run_progress(stream, 1.0)
  assert "\n" not in stream.getvalue()
  assert stream.getvalue().count("\r\x1b[2K") == 10
  shown.say("digits/exact 0.9")
  assert stream.getvalue().endswith("\r\x1b[2Kdigits/exact 0.9\n")
  shown.close()
  assert stream.getvalue().endswith("0.9\n")


def test_a_line_wider_than_the_terminal_is_cut(monkeypatch):
  monkeypatch.setenv("COLUMNS", "20")
  stream = Terminal()
  run_progress(stream, 1.0).close()
  lines = stream.getvalue().split("\r\x1b[2K")[1:]
  assert max(len(line.rstrip("\n")) for line in lines) == 19


def test_the_loss_is_fetched_only_for_a_line():
  class Loss:
    fetched = 0

    def __float__(self):
      Loss.fetched += 1
      return 1.0

  now = [0.0]
  shown = progress.Progress(1000, 1, stream=io.StringIO(), clock=lambda: now[0])
  for step in range(1, 100):
    now[0] += 0.25
    shown.update(step, Loss())
  assert Loss.fetched == 3


def test_other_processes_print_nothing():
  stream = io.StringIO()
  run_progress(stream, 30.0, enabled=False).say("hello")
  assert stream.getvalue() == ""


def test_the_parameter_overview_is_an_aligned_table_with_a_total():
  params = {
    "llm": {"embedder": {"input_embedding": np.zeros((1500, 8), np.float32)}},
    "img": {"bias": np.zeros((8,), ml_dtypes.bfloat16), "scale": np.float32(1)},
  }
  assert progress.parameter_overview(params).splitlines() == [
    "name                           shape  dtype      count",
    "------------------------------------------------------",
    "img/bias                           8  bfloat16       8",
    "img/scale                     scalar  float32        1",
    "llm/embedder/input_embedding  1500x8  float32   12,000",
    "------------------------------------------------------",
    "total                                           12,009",
  ]


def test_the_parameter_overview_works_without_arrays():
  def init():
    return {"a": {"w": jax.numpy.ones((3, 4))}}

  table = progress.parameter_overview(jax.eval_shape(init))
  assert table == progress.parameter_overview(init())


def test_the_parameter_overview_can_tell_mean_and_deviation():
  # In bfloat16 this sum would stop growing at 256.
  ones = np.ones((4000,), ml_dtypes.bfloat16)
  ones[::2] = 3
  table = progress.parameter_overview({"w": ones}, stats=True)
  assert table.splitlines()[0].split()[-2:] == ["mean", "std"]
  assert table.splitlines()[2].split()[-2:] == ["2", "1"]


GREY = np.full((40, 60, 3), 128, np.uint8)


def test_a_small_image_is_enlarged_by_a_whole_factor():
  image = np.arange(48 * 32 * 3, dtype=np.uint8).reshape(48, 32, 3)
  large, factor = draw.enlarge(image, side=100)
  assert (factor, large.shape) == (3, (144, 96, 3))
  np.testing.assert_array_equal(large[1::3, 2::3], image)
  assert draw.enlarge(large, side=100)[1] == 1


def test_a_box_is_drawn_where_it_lies_and_the_image_is_left_alone():
  image = GREY.copy()
  (color,) = draw.by_label(["cat"])
  drawn = draw.boxes(image, [(10, 20, 30, 50)], [""], colors=[color])
  np.testing.assert_array_equal(image, GREY)
  assert tuple(drawn[20, 20]) == tuple(drawn[10, 35]) == color
  np.testing.assert_array_equal(drawn[14:27, 24:47], GREY[14:27, 24:47])
  np.testing.assert_array_equal(drawn[:7], GREY[:7])
  # The label adds a plate above the box.
  labelled = draw.boxes(image, [(20, 20, 30, 50)], ["cat"], colors=[color])
  assert (labelled[8:18, 20:50] == color).all(axis=-1).any()


def test_boxes_as_a_model_writes_them_are_drawn():
  wild = [(30, 50, 10, 20), (-50, -50, 500, 500), (5, 5, 5, 5)]
  drawn = draw.boxes(GREY, wild, ["a" * 50, "b", ""])
  assert drawn.shape == GREY.shape
  straight = draw.boxes(GREY, [(10, 20, 30, 50)], ["a"])
  np.testing.assert_array_equal(
    straight, draw.boxes(GREY, [(30, 50, 10, 20)], ["a"])
  )


def test_the_same_label_has_the_same_colour():
  a, b, c = draw.by_label(["cat", "dog", "cat"])
  assert a == c != b
  assert len(draw.by_label([str(i) for i in range(20)])) == 20


def test_plates_do_not_cover_each_other():
  image = np.full((200, 200, 3), 128, np.uint8)
  colors = [(255, 0, 0), (0, 0, 255)]
  one, two = [(50, 50, 90, 150)], [(50, 50, 90, 150)]
  drawn = draw.boxes(image, one + two, ["cat", "cat"], colors=colors)
  alone = draw.boxes(image, one, ["cat"], colors=colors[:1])
  plate = (alone[:48] == colors[0]).all(axis=-1)
  assert plate.sum() > 50
  assert (drawn[:48][plate] == colors[0]).all()


def test_as_many_labels_and_colours_as_boxes_are_wanted():
  with pytest.raises(ValueError, match="1 boxes, 2 labels"):
    draw.boxes(GREY, [(0, 0, 1, 1)], ["a", "b"])
  with pytest.raises(ValueError, match="0 colours"):
    draw.boxes(GREY, [(0, 0, 1, 1)], ["a"], colors=[])
