"""Renders the report of a check for a terminal."""

import math
import os
import shutil
import textwrap

import tqdm

from pg import table as table_lib
from pg.inspect import findings, inspection

# Columns of the table of datasets; the last three are tokens.
HEAD = ("dataset", "rows", "read", "bad", "skipped", "images")
HEAD += ("prefix", "suffix", "total")
_BARS = "▁▂▃▄▅▆▇█"


def render(report):
  """Returns a inspection.Report as text."""
  width = min(shutil.get_terminal_size((100, 24)).columns, 100)
  datasets = report.inspection.datasets
  read = sum(stats.num_read for stats in datasets)
  seconds = tqdm.tqdm.format_interval(report.seconds)
  blocks = [
    f"{report.title}: {read:,} rows read in {seconds}",
    table(datasets),
    "\n".join(filter(None, (text_len(report), throughput(report)))),
    *_findings(report.inspection.findings, width),
    _row(report, width),
    report.inspection.findings.summary(),
  ]
  return "\n\n".join(filter(None, blocks))


def table(datasets):
  """Returns what was counted in each inspection.DatasetStats, aligned."""
  rows = [[*HEAD, "tokens, least to most"]] + [
    cells(stats) for stats in datasets
  ]
  return "\n".join(table_lib.lines(rows, words=(0, len(HEAD))))


def cells(stats):
  """Returns name, counts, token lengths and a small histogram of a dataset."""
  counts = stats.counts
  numbers = (stats.size, stats.num_read, counts["bad"], counts["skipped"])
  lengths = [span(stats.lengths[k]) for k in ("prefix", "suffix", "total")]
  return [
    stats.name,
    *(f"{n:,}" for n in (*numbers, stats.num_images)),
    *lengths,
    bars(stats.lengths["total"]),
  ]


def span(counts):
  """Returns the least and greatest length of a histogram: "4-12"."""
  filled = [n for n, count in enumerate(counts) if count]
  return f"{filled[0]}-{filled[-1]}" if filled else "-"


def bars(counts, num_bins=16):
  """Returns a histogram as a line of blocks, from the least to the greatest."""
  filled = [n for n, count in enumerate(counts) if count]
  if not filled:
    return ""
  counts = counts[filled[0] :]
  size = math.ceil(len(counts) / num_bins)
  bins = [sum(counts[i : i + size]) for i in range(0, len(counts), size)]
  top = max(bins)
  return "".join(_BARS[math.ceil(7 * b / top)] if b else " " for b in bins)


def text_len(report):
  """Returns a sentence about text_len."""
  found, name = (
    report.inspection,
    f"tokens of {os.path.basename(report.tok.path)}",
  )
  read = sum(stats.counts["good"] for stats in found.datasets)
  if not read:
    return ""
  if not found.judged:
    return f"text_len {found.text_len} is not judged: these are {name}"
  if found.num_cut:
    return (
      f"text_len {found.text_len}: {found.num_cut:,} of {read:,} rows lose text"
      " or EOS;"
      f" {found.min_text_len} is the smallest that loses none ({name})"
    )
  return (
    f"text_len {found.text_len} loses nothing; {found.min_text_len} is the"
    f" smallest such ({name})"
  )


def throughput(report):
  """Returns a sentence about how fast the input is."""
  s = report.throughput
  if s is None:
    return ""
  text = (
    f"input: about {s.single * s.images:,.0f} images/s with one thread,"
    f" {s.parallel * s.images:,.0f} with {s.readers}"
  )
  if not s.wanted:
    return text
  verdict = "keeps up" if s.parallel >= s.wanted else "does not keep up"
  return (
    f"{text}; the steps take {s.wanted * s.images:,.0f}: it {verdict}"
    f" ({s.parallel / s.wanted:.2g}x)"
  )


def by_dataset(finding):
  """Returns how many rows a finding has: "12 in a", or "15 (a 12, b 3)"."""
  common = finding.counts.most_common(4)
  if len(common) == 1:
    return f"{finding.count:,} in {common[0][0]}"
  more = ", ..." if len(finding.counts) > 4 else ""
  names = ", ".join(f"{name} {count:,}" for name, count in common)
  return f"{finding.count:,} ({names}{more})"


def _findings(found, width):
  for severity, finding in found.sorted():
    kind = findings.KINDS[finding.kind]
    lines = [f"{severity}: {kind.title}: {by_dataset(finding)}"]
    for where, detail in finding.places:
      line = ": ".join(filter(None, (where, " ".join(detail.split()))))
      lines.append(textwrap.shorten(line, 4 * width, placeholder=" ..."))
    lines.append(f"-> {kind.advice}")
    yield "\n".join(
      textwrap.fill(
        line,
        width,
        initial_indent="  " * (i > 0),
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
      )
      for i, line in enumerate(lines)
    )


def _row(report, width):
  """Returns the beginning of one row, a column for each token."""
  if not report.batch:
    return ""
  where, row, *_ = report.batch[0]
  columns = [("piece", "token", "input", "ar", "loss")]
  columns += [tuple(map(str, c)) for c in tokens(report.tok, row)]
  lines, used = ["", "", "", "", ""], 0
  for column in columns:
    size = max(map(len, column))
    if used + size > width - 4:
      lines[0] += " ..."
      break
    lines = [f"{line}{c:>{size}} " for line, c in zip(lines, column)]
    used += size + 1
  images = int(row["mask_image"].sum())
  shape = "x".join(map(str, row["image"].shape[1:3]))
  head = f"{where} as the model sees it: {images} image(s) of {shape}, then"
  return "\n".join([head] + [f"  {line.rstrip()}" for line in lines])


def tokens(tok, row):
  """Returns (piece, id, mask_input, mask_ar, mask_loss) of each text position.

  Masks are 0 or 1; a newline is shown as "\\n".
  """
  pieces = [p.replace("\n", "\\n") for p in tok.pieces(row["tokens"])]
  masks = (row[k].astype(int).tolist() for k in inspection.MASKS)
  return list(zip(pieces, row["tokens"].tolist(), *masks))
