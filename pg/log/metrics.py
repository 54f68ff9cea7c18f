"""Writes a run's numbers: one JSON object per line, and TensorBoard events.

`metrics.jsonl` is the record; everything else (curves, report) is made from it:

  {"step": 10, "train/loss": 5.25, "train/lr": 0.0003}
  {"step": 10, "val/digits/exact": 0.5}
  {"step": 20, "train/loss": "nan", "train/lr": 0.0003}

A step may have several lines. JSON has no word for numbers that are not finite,
so they are written as the strings "nan", "inf" and "-inf"; `read` gives them
back as floats.
"""

import hashlib
import io
import json
import math
import numbers
import os
import pathlib
import time

from PIL import Image
from tensorboardX import event_file_writer
from tensorboardX.proto import event_pb2, summary_pb2

from pg import atomic

NON_FINITE = ("nan", "inf", "-inf")
# How the names of metrics begin that a clock or the machine tells: facts of one
# start, not of the run. The rest is the same each time.
OF_MACHINE = ("memory/", "speed/", "time/")


class MetricWriter:
  """Appends metrics to `workdir/metrics.jsonl` and `workdir/tensorboard/`.

  Opening repairs a last line that a kill has torn. Each line is written and
  handed to the system at once, so a kill loses nothing that was written.

  Args:
    workdir: path of the run, made where it is missing.
    resume_step: int, the step of the restored checkpoint (0: a run that starts
      anew): what was logged after it is removed, since the run will log it
      again. None removes nothing.
    enabled: bool, False on all processes but the first: nothing is written.
    config: dict, the run's; a project of Weights & Biases that its `wandb`
      names gets a copy.

  Raises:
    ValueError: wandb is not installed.
  """

  def __init__(self, workdir, resume_step=None, *, enabled=True, config=None):
    self._enabled = enabled
    if not enabled:
      return
    self.path = pathlib.Path(workdir) / "metrics.jsonl"
    self.path.parent.mkdir(parents=True, exist_ok=True)
    _restore(self.path, resume_step)
    self.path.touch()
    self._events = _open_events(self.path.parent / "tensorboard", resume_step)
    self._board = None
    if config and config["wandb"]:
      self._board = _open_board(config, workdir)

  def write(self, step, values):
    """Writes the metrics of one step.

    Args:
      step: int.
      values: {name: number}; numbers, or arrays of one number without a shape.

    Raises:
      ValueError: a value that is not one number, or a metric called "step".
      OSError: the disk is full or gone; the file then ends with the last
        complete line.
    """
    if not self._enabled:
      return
    if "step" in values:
      raise ValueError('a metric cannot be called "step"; rename it')
    values = {name: _number(name, value) for name, value in values.items()}
    line = {"step": int(step)} | {k: _to_json(v) for k, v in values.items()}
    try:
      atomic.append(self.path, json.dumps(line).encode() + b"\n")
      _write_events(self._events, step, _scalars(values))
    except OSError as error:
      raise OSError(
        error.errno,
        f"cannot write the metrics of step {step} ({error.strerror}); what was"
        " written before is intact: make room and start the run again",
        str(self.path),
      ) from error
    if self._board:
      self._board.log(values, step=int(step))

  def pictures(self, step, evaluator, images):
    """Shows pictures of a step, of an evaluator's predictions.

    Args:
      step: int.
      evaluator: str.
      images: {name: u8[height, width, 3]}.
    """
    if not self._enabled or not images:
      return
    named = {f"{evaluator}/predictions/{k}": v for k, v in images.items()}
    _write_events(self._events, step, _pictures(named))
    if self._board:
      import wandb

      shown = {name: wandb.Image(image) for name, image in named.items()}
      self._board.log(shown, step=int(step))

  def close(self):
    """Closes the files; a second call does nothing."""
    if self._enabled:
      self._enabled = False
      self._events.close()
      if self._board:
        self._board.finish()

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()


def read(path):
  """Returns the lines of a metrics file as dicts, non-finite values as floats.

  A torn last line is left out: the file of a living run can be read.

  Raises:
    ValueError: another line is not a JSON object; the message names it.
  """
  lines = pathlib.Path(path).read_bytes().split(b"\n")
  rows = []
  for number, line in enumerate(lines[:-1], start=1):
    row = _parse(line)
    if row is None:
      raise ValueError(
        f"{path}:{number} is not a JSON object: {line[:60]!r}; remove the line"
      )
    rows.append(row)
  return rows + [row for row in [_parse(lines[-1])] if row is not None]


def _restore(path, step):
  """Ends a file's torn last line and removes the lines after `step`, if any.

  A line that lacks only its line break gets one; half a line is cut off. A kill
  leaves the old file or the new one.
  """
  if not path.exists():
    return
  data = path.read_bytes()
  *lines, last = data.split(b"\n")
  lines += [last] * (_parse(last) is not None)
  late = lambda line: (_parse(line) or {"step": 0})["step"] > step
  kept = [line for line in lines if step is None or not late(line)]
  kept = b"".join(line + b"\n" for line in kept)
  if kept != data:
    atomic.write(path, kept)


def _parse(line):
  """Returns one line as a dict, or None where it is not a JSON object."""
  try:
    row = json.loads(line)
  except ValueError:
    return None
  if not isinstance(row, dict) or "step" not in row:
    return None
  return {k: float(v) if v in NON_FINITE else v for k, v in row.items()}


def _number(name, value):
  if isinstance(value, numbers.Integral):
    return int(value)
  try:
    return float(value)
  except (TypeError, ValueError) as error:
    raise ValueError(
      f"metric {name!r} must be one number, got {value!r:.80}; log its mean, or"
      " each entry under a name of its own"
    ) from error


def _to_json(value):
  return value if math.isfinite(value) else str(value)


# tensorboardX's SummaryWriter hands events to a thread through a queue of ten:
# a full disk kills the thread, and the eleventh event then waits for ever. Its
# EventsWriter below writes in place and lets the error through.
def _open_events(folder, resume_step):
  folder.mkdir(exist_ok=True)
  # TensorBoard reads files in the order of their names, and a restart within
  # the same second must not overwrite the file before it.
  suffix = f".{len(list(folder.iterdir())):05}"
  events = event_file_writer.EventsWriter(str(folder / "events"), suffix)
  if resume_step is not None:
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    purge = event_pb2.Event(
      step=resume_step + 1, wall_time=time.time(), session_log=start
    )
    events.write_event(purge)
  events.flush()
  return events


def _scalars(values):
  value = summary_pb2.Summary.Value
  return [value(tag=k, simple_value=v) for k, v in values.items()]


def _pictures(images):
  found = []
  for name, image in images.items():
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=90)
    height, width, _ = image.shape
    picture = summary_pb2.Summary.Image(
      height=height,
      width=width,
      colorspace=3,
      encoded_image_string=out.getvalue(),
    )
    found.append(summary_pb2.Summary.Value(tag=name, image=picture))
  return found


def _write_events(events, step, values):
  summary = summary_pb2.Summary(value=values)
  events.write_event(
    event_pb2.Event(step=int(step), wall_time=time.time(), summary=summary)
  )
  events.flush()


def _open_board(config, workdir):
  """Opens a run of Weights & Biases, the same one for the same workdir."""
  try:
    import wandb
  except ImportError as error:
    raise ValueError(
      f"config.wandb is {config['wandb']!r}, but wandb is not installed: pip"
      " install -r requirements-wandb.txt, or leave config.wandb empty"
    ) from error
  name = str(workdir)  # of one in a bucket its URL, see mirror.py
  name = name if "://" in name else os.path.abspath(name)
  return wandb.init(
    project=config["wandb"],
    config=config,
    name=os.path.basename(name),
    id=hashlib.sha256(name.encode()).hexdigest()[:16],
    resume="allow",
    dir=os.fspath(workdir),
    settings=wandb.Settings(console="off"),
  )
