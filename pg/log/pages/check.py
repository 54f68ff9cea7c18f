"""Renders the report of a check as an HTML page with images."""

import html

import numpy as np
import tqdm

from pg import atomic
from pg.inspect import findings, inspection, terminal
from pg.log.pages import cards, curves, page

HEIGHT = 120  # of a histogram on the page
NUM_BINS = 60
# Characters of a text on a card.
LONGEST = 300

CSS = """
.found { margin: 0 0 1.4rem; }
.found p { margin: .1rem 0; }
.found ul { margin: .2rem 0; padding-left: 1.2rem; font-size: .875rem; }
.found li { overflow-wrap: anywhere; }
.error { color: var(--bad); } .warning { color: var(--part); }
.note-word { color: var(--soft); }
.bars rect { fill: var(--line); stroke: none; }
.bars path.limit { stroke: var(--bad); stroke-dasharray: 4 3; }
.counts { font-size: .875rem; white-space: nowrap; }
.counts th:nth-child(n+2), .counts td { text-align: right; }
.row { margin: 0 0 2rem; }
.row .images { display: flex; gap: .5rem; flex-wrap: wrap; }
.row img { height: 9rem; image-rendering: auto; display: block; }
.row img.sharp { image-rendering: pixelated; }
.row img.hidden { opacity: .15; }
.row table { width: auto; margin-top: .4rem; font-size: .75rem;
  white-space: nowrap; }
.row th, .row td { padding: .05rem .45rem .05rem 0; }
.row td { text-align: center; border-left: 1px solid var(--rule);
  padding-left: .45rem; }
.row td.off { color: var(--rule); }
.row figcaption { font-size: .75rem; color: var(--soft); }
"""


def write(report, path):
  """Writes an inspection.Report as a page; returns its path."""
  atomic.write(path, render(report))
  return path


def render(report):
  """Renders an inspection.Report as HTML."""
  found = report.inspection.findings
  title = f"Check of {report.title}"
  facts = f"{found.summary()} · {tqdm.tqdm.format_interval(report.seconds)}"
  batch = (
    f"The first {len(report.batch)} rows of training, as the model sees them"
  )
  sections = [
    f"<style>{CSS}</style>",
    f"<header><h1>{html.escape(title)}</h1><p>{facts}</p></header>",
    page.section("Findings", _findings(report) or "<p>Nothing is wrong.</p>"),
    page.section("Datasets", _datasets(report)),
    page.section("Text lengths", _lengths(report)),
    page.section(
      "Images and answers",
      _cards(report.batch, "The rows that training reads first."),
    ),
    page.section(batch, "".join(_row(report.tok, one) for one in report.batch)),
  ]
  return page.render(title, sections)


def _findings(report):
  return "".join(
    _finding(severity, finding, report.samples[finding.kind])
    for severity, finding in report.inspection.findings.sorted()
  )


def _finding(severity, finding, samples):
  kind = findings.KINDS[finding.kind]
  places = "".join(
    f"<li><code>{html.escape(where)}</code> {html.escape(detail)}</li>"
    for where, detail in finding.places
  )
  more = finding.count - len(finding.places)
  places += f"<li>… {more:,} more</li>" if places and more > 0 else ""
  css = "note-word" if severity == "note" else severity
  return (
    f'<div class="found"><p><b class="{css}">{severity}</b>'
    f" {html.escape(kind.title)}"
    f' <span class="note">{html.escape(terminal.by_dataset(finding))}</span>'
    f"</p><p>{html.escape(kind.advice)}</p><ul>{places}</ul>"
    f"{_cards(samples, 'The first of them.')}</div>"
  )


def _datasets(report):
  head = "".join(f"<th>{name}</th>" for name in terminal.HEAD)
  body = ""
  for stats in report.inspection.datasets:
    name, *cells = terminal.cells(stats)[:-1]
    cells = "".join(f"<td>{cell}</td>" for cell in cells)
    body += f"<tr><th>{html.escape(name)}</th>{cells}</tr>"
  notes = (terminal.text_len(report), terminal.throughput(report))
  notes = "".join(f'<p class="note">{html.escape(n)}.</p>' for n in notes if n)
  return (
    f'<div class="wide"><table class="counts"><tr>{head}</tr>{body}</table>'
    f"</div>{notes}"
  )


def _lengths(report):
  """Returns histograms of training and evaluation texts, in tokens."""
  figures = []
  for train, where in ((True, "training"), (False, "evaluation")):
    datasets = [d for d in report.inspection.datasets if d.train == train]
    for name in ("prefix", "suffix", "total"):
      counts = inspection.add_up([d.lengths[name] for d in datasets])
      if any(counts):
        limit = report.inspection.text_len + 1 if name == "total" else None
        figures.append(
          f"<figure><figcaption><code>{name}, {where}</code><span>"
          f"median {inspection.quantile(counts, 0.5)}, 99%"
          f" {inspection.quantile(counts, 0.99)}, most {len(counts) - 1}"
          f"</span></figcaption>{histogram(counts, limit)}</figure>"
        )
  note = (
    '<p class="note">Rows by number of tokens. The prefix counts bos and the'
    " newline, the suffix eos; the dashed line is the room at this text_len."
    "</p>"
  )
  return f'<div class="charts">{"".join(figures)}</div>{note}'


def histogram(counts, limit=None):
  """Draws counts by length as SVG; `limit` is a length to mark."""
  last = max(len(counts) - 1, limit or 0)
  size = -(-(last + 1) // NUM_BINS)
  bins = [sum(counts[i : i + size]) for i in range(0, last + 1, size)]
  x_ticks = [t for t in curves.ticks(0, last + 1, 4) if t <= last + 1]
  y_ticks = curves.ticks(0, max(bins), 3)
  span = curves.WIDTH - curves.LEFT - curves.RIGHT
  x = lambda n: round(curves.LEFT + n / (last + 1) * span, 1)
  floor = HEIGHT - curves.BOTTOM
  y = lambda n: round(floor - n / y_ticks[-1] * (floor - curves.TOP), 1)
  parts = curves.axes(x_ticks, y_ticks, x, y, HEIGHT)
  width = max(x(size) - x(0) - 0.5, 0.5)
  for i, count in enumerate(bins):
    parts.append(
      f'<rect x="{x(i * size)}" y="{y(count)}" width="{width:.1f}"'
      f' height="{floor - y(count):.1f}"/>'
    )
  if limit is not None:
    parts.append(
      f'<path class="limit" d="M{x(limit + 1)} {curves.TOP}V{floor}"/>'
    )
  return (
    f'<svg class="bars" viewBox="0 0 {curves.WIDTH} {HEIGHT}" role="img">'
    f"<title>rows by number of tokens</title>{''.join(parts)}</svg>"
  )


def _cards(samples, note):
  rows = [
    {
      "prompt": one.prefix,
      "truth": one.suffix,
      "image": cards.encode(_side_by_side(one.row)),
      "id": {"codec": one.codec},
    }
    for one in samples
  ]
  return cards.grid(rows, note, LONGEST) if rows else ""


def _side_by_side(row):
  """Returns the images that the model sees, or the first where it sees none."""
  images = row["image"][row["mask_image"]]
  return np.concatenate(images if len(images) else row["image"][:1], axis=1)


def _row(tok, sample):
  """Draws one row: its images, then a column for each text position."""
  images = ""
  sharp = "sharp " * (sample.row["image"].shape[1] <= cards.PIXELATED)
  for image, mask in zip(sample.row["image"], sample.row["mask_image"]):
    css = sharp + "hidden" * (not mask)
    images += (
      f'<figure><img class="{css}" alt=""'
      f' src="data:image;base64,{cards.encode(image)}">'
      f"<figcaption>mask_image {int(mask)}</figcaption></figure>"
    )
  columns = terminal.tokens(tok, sample.row)
  end = max((i for i, c in enumerate(columns) if c[1] != tok.pad), default=0)
  more = len(columns) - (end + 2)
  note = ""
  if more > 0:
    text = html.escape(f"and {more:,} more {columns[-1][0]}")
    note = f'<p class="note">{text}</p>'
  lines = zip(*columns[: end + 2])
  table = ""
  for name, line in zip(("piece", "tokens", *inspection.MASKS), lines):
    cells = "".join(
      f"<td{' class=off' * (cell == 0)}>{html.escape(str(cell))}</td>"
      for cell in line
    )
    table += f"<tr><th>{name}</th>{cells}</tr>"
  return (
    f'<div class="row"><p class="note"><code>{html.escape(sample.where)}</code>'
    f'</p><div class="images">{images}</div>'
    f'<div class="wide"><table>{table}</table></div>{note}</div>'
  )
