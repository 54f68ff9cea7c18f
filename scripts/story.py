r"""The whole way in miniature: two stages of pre-training, then two transfers.

python -m scripts.story --workdir runs/story
python -m scripts.story --workdir runs/story --scale 0.05   # a first look

Stage 1 at 48 px, stage 2 at 96 px (configs/stage1.py and stage2_448.py, size
nano), then transfers/nano.py to handwritten digits and to referring, each from
stage 2 and from scratch. Each is a `pg.train` of its own in a folder of
--workdir. After --minutes the run that is on is told to save and stop, and the
same command goes on from there; what is complete is not trained again. At the
end story.html has what was learned across the stages as one line, and the
scores on held-out data beside those of answers without a look at the image.
"""

import html
import json
import pathlib
import signal
import subprocess
import sys
import time

from pg import atomic, command, progress, stop
from pg.log import metrics
from pg.log.pages import curves, page, report

STAGES = ("stage1", "stage2")
# Of scripts that train several runs in slices, see `train_all`.
FLAGS = dict(
  workdir=dict(required=True, help="folder of all runs"),
  scale=dict(type=float, default=1.0, help="share of all examples"),
  minutes=dict(type=float, default=85.0, help="of this slice"),
)
# Of the stages: name -> what a chart is called.
CURVES = {
  "nll/nll": "held-out captions, nats per token",
  "train/loss": "training loss",
  "train/lr": "learning rate of the decoder",
}


def plan(workdir, scale):
  """Returns {run: config file with arguments}, in order."""
  place = lambda name: f"{workdir}/{name}"
  size = f"size=nano,scale={scale:g}"
  found = {
    "stage1": f"configs/stage1.py:{size}",
    "stage2": f"configs/stage2_448.py:{size},init={place('stage1')}",
  }
  for task in ("digits", "refer"):
    for name, init in ((task, place("stage2")), (f"{task}_scratch", "none")):
      found[name] = f"transfers/nano.py:task={task},init={init},scale={scale:g}"
  return found


def train_all(runs, workdir, deadline):
  """Trains what is not complete, until a time.

  Args:
    runs: {name of a run: (config file with arguments, list of further words of
      the command line)}, in order.
    workdir: pathlib.Path, the folder of all.
    deadline: float, of time.monotonic.

  Returns:
    bool, whether all are complete.

  Raises:
    ValueError: one failed.
  """
  for number, (name, (file, words)) in enumerate(runs.items(), 1):
    is_complete = (workdir / name / "scores.json").exists()
    done = f"{number}/{len(runs)} {name}{': complete' * is_complete}"
    print(done, flush=True)
    if is_complete:
      continue
    if not _train([file, *words], str(workdir / name), deadline):
      progress.say("the time is over; the same command goes on")
      return False
  return True


def _train(words, workdir, deadline):
  """Trains until a run has ended, or until a time.

  Args:
    words: list of str, what follows --config.
    workdir: str.
    deadline: float, of time.monotonic.

  Returns:
    bool, whether it has ended.

  Raises:
    ValueError: it failed.
  """
  me = [sys.executable, "-m", "pg.train", "--config", *words]
  # Its own group: Ctrl-C comes here, and is handed on once.
  process = subprocess.Popen([*me, "--workdir", workdir], process_group=0)
  while process.poll() is None:
    if stop.requested() or time.monotonic() > deadline:
      process.send_signal(signal.SIGTERM)
      break
    time.sleep(0.2)
  status = process.wait()
  if stop.requested():
    raise stop.Stopped
  if status not in (0, 128 + signal.SIGTERM):
    raise ValueError(f"{workdir}: pg.train ended with status {status}")
  return status == 0


def one_line(workdir):
  """Joins the curves of the stages.

  Returns:
    {name of CURVES: [(examples, value)]} across the stages, and
    [(examples, name)], where each but the first begins.
  """
  lines, starts, last = {name: [] for name in CURVES}, [], 0
  for stage in STAGES:
    if last:
      starts.append((last, stage))
    at = {}
    for row in metrics.read(workdir / stage / "metrics.jsonl"):
      at[row["step"]] = row.get("data/examples", at.get(row["step"]))
      last = max(last, at[row["step"]] or 0)
      if "train/lr/llm" in row:  # where groups have curves of their own
        row["train/lr"] = row["train/lr/llm"]
      for name, points in lines.items():
        if name in row and at[row["step"]]:
          points.append((at[row["step"]], row[name]))
  return lines, starts


def write(workdir, names):
  """Writes story.html of the runs that have scores; returns its path."""
  lines, starts = one_line(workdir)
  figures = [
    f"<figure><figcaption><code>{html.escape(text)}</code>"
    f"<span>{curves.label(lines[name][-1][1])}</span></figcaption>"
    f"{curves.chart(text, lines[name], over='examples', marks=starts)}</figure>"
    for name, text in CURVES.items()
    if lines[name]
  ]
  scores = {
    name: json.loads((workdir / name / "scores.json").read_text("utf-8"))
    for name in names
  }
  taken = {name: spent(workdir / name) for name in names}
  costs = "".join(
    f'<tr><td><a href="{name}/report.html">{name}</a></td>'
    f"<td>{examples:,}</td><td>{hours:.2f}</td></tr>"
    for name, (examples, hours) in taken.items()
  )
  sections = [
    "<header><h1>From stage 1 to transfers, in miniature</h1>"
    f"<p>{html.escape(' '.join(sys.argv[1:]))}</p></header>",
    page.section(
      "Across the stages", f'<div class="charts">{"".join(figures)}</div>'
    ),
    page.section(
      "What it took, with what came before",
      "<table><tr><th>run</th><th>examples</th><th>chip-hours</th></tr>"
      f"{costs}</table>",
    ),
    *(page.section(name, report.score_table(x)) for name, x in scores.items()),
  ]
  path = workdir / "story.html"
  atomic.write(path, page.render("story", sections))
  return path


def spent(folder):
  """Returns examples and chip-hours of a run, and those it went on from."""
  rows = list(metrics.read(folder / "metrics.jsonl"))
  last = lambda key: [row[key] for row in rows if key in row][-1]
  return last("data/examples"), last("time/chip_hours")


def main(args):
  deadline = time.monotonic() + 60 * args.minutes
  workdir = pathlib.Path(args.workdir)
  files = plan(args.workdir, args.scale)
  runs = {name: (file, []) for name, file in files.items()}
  if not train_all(runs, workdir, deadline):
    return
  print(f"the story: {write(workdir, files)}")


if __name__ == "__main__":
  command.run(
    main,
    __doc__,
    with_config=False,
    **FLAGS,
  )
