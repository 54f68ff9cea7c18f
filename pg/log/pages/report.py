"""Writes the report of a run: `report.html`, one file that needs no other.

It is made from what lies in the run's folder; what is missing is left out:

  config.json        the config
  history.jsonl      a line for each start, of which the last one's command and
                     commit are stated
  metrics.jsonl      curves; names that begin with "time/" (so far), "memory/"
                     or "speed/" are facts, of which the last, greatest or
                     median is stated, and so are those with "data/" (what was
                     read so far)
  scores.json        {"val": {"exact": {"value": 0.9, "blind": 0.3, "n": 64}}}
                     final scores by evaluator and metric; `blind` is what can
                     be had without the image, and may be missing, as may `n`,
                     `low` and `high` (an interval), `level` (how often such
                     a one holds the truth, where not in 95 of 100 cases) and
                     `published`
  predictions/       {evaluator}-{step:09d}.jsonl, the last step of each, in
                     lines as `cards` describes
"""

import collections
import contextlib
import datetime
import html
import json
import math
import pathlib
import re
import statistics

import tqdm

from pg import atomic, progress
from pg.log import metrics
from pg.log.pages import cards, curves, page

# Images of each evaluator, the worst of its file, or the first without scores.
NUM_EXAMPLES = 12
_SOFT = "95 % interval", "Before", "Difference"  # columns


def write(workdir):
  """Writes `report.html` into a run's folder and returns its path.

  Raises:
    ValueError: the folder has nothing to report.
  """
  workdir = pathlib.Path(workdir)
  config = _read_json(workdir / "config.json")
  scores = _read_json(workdir / "scores.json")
  rows = []
  if (workdir / "metrics.jsonl").exists():
    rows = metrics.read(workdir / "metrics.jsonl")
  predictions = last_predictions(workdir / "predictions")
  if not (config or scores or rows or predictions):
    raise ValueError(
      f"nothing to report in {workdir}: it has no config.json, metrics.jsonl,"
      " scores.json or predictions/; is it a run's --workdir?"
    )
  series = collect(rows)
  title = workdir.resolve().name
  before = {k: v[0][1] for k, v in series.items() if not v[0][0]}
  sections = [
    _header(title, config, rows, _when(workdir, series), _start(workdir)),
    page.section("Scores", score_table(scores, before)),
    page.section("Curves", _charts(series, scores)),
    *_examples(predictions),
    page.section("Cost", _facts(_costs(series))),
    page.section("Data", _facts(_reading(series))),
    page.section("Config", _facts(_flatten(config))),
  ]
  path = workdir / "report.html"
  atomic.write(path, page.render(title, sections))
  return path


def collect(rows):
  """Returns {name: [(step, value), ...]}; a step's last value counts."""
  series = collections.defaultdict(dict)
  for row in rows:
    for name, value in row.items():
      if name != "step":
        series[name][row["step"]] = value
  return {name: sorted(points.items()) for name, points in series.items()}


def last_predictions(folder):
  """Returns {evaluator: (step, path)} of the last step of each, by name."""
  last = {}
  for path in sorted(folder.glob("*.jsonl")):
    match = re.fullmatch(r"(.+)-([0-9]{9})", path.stem)
    if match:
      last[match[1]] = int(match[2]), path
  return last


def number(value):
  """Returns a score as text with three decimals; "–" for None and nan."""
  if value is None or math.isnan(value):
    return "–"
  return f"{value:,.3f}".replace("-", "−").replace("inf", "∞")


def _read_json(path):
  return json.loads(path.read_text("utf-8")) if path.exists() else {}


def _when(workdir, series):
  """Returns when training ended and how long it took, as far as is known."""
  if "time/total" not in series:
    return []
  end = (workdir / "metrics.jsonl").stat().st_mtime
  end = datetime.datetime.fromtimestamp(end, datetime.UTC)
  taken = tqdm.tqdm.format_interval(series["time/total"][-1][1])
  return [f"{end:%Y-%m-%d}", f"{taken} of training"]


def _start(workdir):
  """Returns the last line of history.jsonl that is whole, {} without one."""
  path = workdir / "history.jsonl"
  lines = path.read_bytes().splitlines() if path.exists() else []
  for line in reversed(lines):
    with contextlib.suppress(ValueError):  # a kill left half of it
      return json.loads(line)
  return {}


def _header(title, config, rows, when, start):
  facts = []
  if rows:
    step = max(row["step"] for row in rows)
    facts.append(f"{step:,} steps")
    if isinstance(config.get("batch_size"), int):
      facts.append(f"{step * config['batch_size']:,} examples")
  facts += [
    f"{key.replace('_', ' ')} {config[key]}"
    for key in ("batch_size", "res", "lr", "seed")
    if key in config
  ]
  if commit := start.get("commit"):
    when = [*when, f"commit {commit}"]
  line = " · ".join(html.escape(fact) for fact in facts + when)
  command = html.escape(start.get("command", ""))
  return (
    f"<header><h1>{html.escape(title)}</h1><p>{line}</p>"
    f"{f'<p><code>{command}</code></p>' if command else ''}</header>"
  )


def score_table(scores, before=None):
  """Returns the table of what scores.json holds as HTML; "" of nothing.

  Args:
    scores: {evaluator: {metric: entry}}, see above.
    before: {"evaluator/metric": value}, scores before the first step, or None.
  """
  before = before or {}
  entries = [score for table in scores.values() for score in table.values()]
  heads = ["Evaluator", "Metric", "Score", "95 % interval", "Before", "Blind"]
  heads += ["Difference", "Published", "Examples"]
  names = [f"{name}/{metric}" for name, t in scores.items() for metric in t]
  if not any(name in before for name in names):
    heads.remove("Before")
  for head, key in (("95 % interval", "low"), ("Published", "published")):
    if not any(key in entry for entry in entries):
      heads.remove(head)
  body = []
  for evaluator, table in scores.items():
    for i, (metric, score) in enumerate(table.items()):
      cells = _score_cells(score)
      if before:
        cells["Before"] = number(before.get(f"{evaluator}/{metric}"))
      texts = "".join(
        f"<td{' class=soft' * (h in _SOFT)}>{cells[h]}</td>"
        for h in heads
        if h in cells
      )
      body.append(
        f"<tr{' class=first' * (i == 0)}>"
        f"<th>{_breaking(evaluator) if i == 0 else ''}</th>"
        f"<td>{html.escape(metric)}</td>{texts}</tr>"
      )
  if not body:
    return ""
  head = "".join(f"<th>{name}</th>" for name in heads)
  return (
    f'<div class="wide"><table class="scores"><thead><tr>{head}</tr></thead>'
    f"<tbody>{''.join(body)}</tbody></table></div>"
    '<p class="note">Blind: the same metric for the commonest training answer'
    " to each prompt, given without looking at the image. An interval of few"
    " objects has in brackets how often the truth is inside such ones.</p>"
  )


def _breaking(name):
  """Returns a name as HTML that may go on in another line after a `_`."""
  return html.escape(name).replace("_", "_<wbr>")


def _score_cells(score):
  """Returns {head of a column: text} of one entry of scores.json."""
  names = ("value", "blind", "published", "low", "high")
  value, blind, published, *ends = (_float(score.get(k)) for k in names)
  gain = None if None in (value, blind) else value - blind
  span = "–" if None in ends else " to ".join(map(number, ends))
  if level := _float(score.get("level")):
    span += f" ({100 * level:.0f} %)"
  sign = "+" if gain is not None and gain > 0 else ""
  return {
    "Score": number(value),
    "95 % interval": span,
    "Blind": number(blind),
    "Difference": f"{sign}{number(gain)}",
    "Published": number(published),
    "Examples": f"{score['n']:,}" if "n" in score else "–",
  }


def _float(value):
  return None if value is None else float(value)


def _charts(series, scores):
  """Returns the curves: the training loss first, then scores, then the rest."""
  blinds = {
    f"/{evaluator}/{metric}": _float(score.get("blind"))
    for evaluator, table in scores.items()
    for metric, score in table.items()
  }
  drawn = []
  for name, points in series.items():
    if name.startswith((*metrics.OF_MACHINE, "data/")):
      continue
    if not any(math.isfinite(v) for _, v in points):
      continue
    if len(points) == 1 and name != "train/loss":
      continue  # a final score stands in the table
    found = [k for k in blinds if f"/{name}".endswith(k)]
    rank = 0 if name == "train/loss" else 1 if found else 2
    drawn.append((rank, name, points, blinds[found[0]] if found else None))
  last_step = max((points[-1][0] for points in series.values()), default=0)
  drawn.sort(key=lambda chart: chart[:2])
  figures = [_figure(*rest, last_step) for _, *rest in drawn]
  return f'<div class="charts">{"".join(figures)}</div>' if figures else ""


def _figure(name, points, blind, last_step):
  broken = [step for step, value in points if not math.isfinite(value)]
  note = ""
  if broken:
    note = (
      f'<p class="note">Not finite from step {broken[0]:,}, in {len(broken):,}'
      f" of {len(points):,} points.</p>"
    )
  return (
    f"<figure><figcaption><code>{html.escape(name)}</code>"
    f"<span>{curves.label(points[-1][1])}</span></figcaption>"
    f"{curves.chart(name, points, last_step=last_step, blind=blind)}"
    f"{note}</figure>"
  )


def _examples(predictions):
  """Returns a section of cards for each evaluator, the worst first."""
  sections = []
  for evaluator, (step, path) in predictions.items():
    # Not splitlines: a text may hold other characters that end a line.
    lines = path.read_text("utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    is_scored = all("score" in row for row in rows)
    shown = sorted(rows, key=cards.score) if is_scored else rows
    shown = shown[:NUM_EXAMPLES]
    if shown:
      which = f"{len(shown):,} worst" if is_scored else f"first {len(shown):,}"
      note = f"The {which} of {len(rows):,} at step {step:,}."
      body = cards.grid(shown, note)
      sections.append(page.section(f"Examples: {evaluator}", body))
  return sections


def _costs(series):
  facts = {}
  for name, points in series.items():
    kind, _, label = name.partition("/")
    label = label.replace("_", " ")
    values = [v for _, v in points if math.isfinite(v)]
    if not values or f"{kind}/" not in metrics.OF_MACHINE:
      continue
    if kind == "memory":
      facts[f"memory, {label}"] = f"{max(values):.3g} GiB"
    elif kind == "time" and label != "chip hours":
      facts[label] = tqdm.tqdm.format_interval(values[-1])
    elif name in ("speed/mfu", "speed/data_wait"):
      facts[label] = f"{statistics.median(values):.1%}"
    else:
      value = values[-1] if kind == "time" else statistics.median(values)
      facts[label] = curves.label(float(f"{value:.3g}"))
  return facts


def _reading(series):
  last = {name: points[-1][1] for name, points in series.items()}
  return {
    name.removeprefix("data/"): f"{value:,.{0 if value % 1 == 0 else 2}f}"
    for name, value in last.items()
    if name.startswith("data/")
  }


def _flatten(config, prefix=""):
  """Returns {"optim.lr": "0.001"} of a nested config."""
  flat = {}
  for key, value in config.items():
    if isinstance(value, dict) and value:
      flat |= _flatten(value, f"{prefix}{key}.")
    else:
      flat[prefix + key] = (
        value if isinstance(value, str) else json.dumps(value)
      )
  return flat


def _facts(facts):
  rows = [
    f"<tr><th>{html.escape(k)}</th><td>{html.escape(progress.safe(v))}</td></tr>"
    for k, v in facts.items()
  ]
  return f'<table class="facts">{"".join(rows)}</table>' if rows else ""
