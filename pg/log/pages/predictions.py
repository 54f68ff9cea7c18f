"""Writes `predictions.html`, a page to browse predictions, worst first.

It is one file that needs no other and no network. All predictions are in it as
JSON; browser.js draws those of one page at a time, from texts and never from
HTML. What belongs to an image (boxes, masks) is prepared here.
"""

import functools
import html
import json
import math
import os
import pathlib

import jax

from pg import atomic
from pg.codecs import masks
from pg.log.pages import cards, page

# Files of images that are in the page, the worst rows', and their pixels: all
# together are less than 20 MB.
NUM_FILES, THUMBNAIL = 500, 256

CSS = """
body { max-width: 72rem; margin-top: 2rem; }
noscript { color: var(--bad); }
.controls {
  position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap;
  gap: .5rem 1rem; align-items: end; padding: .7rem 0; margin: 1rem 0 1.5rem;
  background: var(--paper); border-bottom: 1px solid var(--rule);
}
.controls label { font-size: .8125rem; color: var(--soft); }
.controls :is(select, input) { display: block; font-size: .9375rem; }
.controls :is(select, input, button) {
  font-family: inherit; color: inherit; padding: .2rem .4rem;
  background: transparent; border: 1px solid var(--rule); border-radius: 3px;
}
.controls option { background: var(--paper); color: var(--ink); }
.controls :disabled { opacity: .4; }
#count { font-size: .9rem; color: var(--soft); min-width: 11rem; }
#cards { grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); }
#cards figure { padding: .5rem; border: 1px solid transparent; }
#cards figure:focus { border-color: var(--line); outline: none; }
#cards figure { scroll-margin: 6rem; }
.frame { aspect-ratio: 1; border: 1px dashed var(--rule); }
.meta { color: var(--soft); font-size: .75rem; overflow-wrap: anywhere; }
ins { color: var(--good); text-decoration: underline; }
del { color: var(--bad); }
"""


def write(path, predictions, codec=None):
  """Writes the page, in the first process only.

  Args:
    path: str.
    predictions: {evaluator: list of dict}, pg.evals.records.
    codec: str, the mask codec that codes in the texts are of; by default the
      one that a record names.

  Returns:
    path.

  Raises:
    ValueError: an image or a codec that cannot be read.
  """
  if jax.process_index() > 0:
    return path
  shown = _with_picture(predictions)
  rows = [
    _row(name, record, codec, id(record) in shown)
    for name, records in predictions.items()
    for record in records
  ]
  title = os.path.basename(os.path.dirname(os.path.abspath(path)))
  atomic.write(path, render(title, rows))
  return path


def _with_picture(predictions):
  """Returns ids of the records whose files are shown: the worst by score."""
  records = [
    r
    for rows in predictions.values()
    for r in rows
    if r.get("image_ref") and not r.get("image")
  ]
  # As the page orders them: without a score, wrong is worse than right.
  value = lambda r: r.get("score", float(r["prediction"] == r["truth"]))
  return {id(r) for r in sorted(records, key=value)[:NUM_FILES]}


def render(title, rows):
  """Returns the page as HTML."""
  left = sum("image" not in row and "image_ref" in row for row in rows)
  note = f" {left:,} images are named, not shown." if left else ""
  # "<" would let a text end the script; JSON has another way to write it.
  data = json.dumps(rows, ensure_ascii=False).replace("<", "\\u003c")
  script = pathlib.Path(__file__).with_suffix(".js").read_text("utf-8")
  sections = [
    f"<style>{CSS}</style>",
    f"<header><h1>Predictions of {html.escape(title)}</h1>"
    "<p>j and k: next and previous prediction; → and ←: page. Boxes and masks:"
    ' <i class="key true"></i>truth <i class="key predicted"></i>prediction'
    ' <i class="key prompt"></i>in the prompt. Difference: <ins>too much</ins>'
    f" <del>missing</del>.{note}</p></header>"
    "<noscript>This page needs JavaScript.</noscript>",
    '<div class="controls"></div><div id="cards" class="cards"></div>',
    f'<script type="application/json" id="data">{data}</script>',
    f"<script>{script}</script>",
  ]
  return page.render(f"Predictions of {title}", sections)


def _row(evaluator, record, codec, with_file):
  """Returns what the page knows of a prediction."""
  picture = None
  if record.get("image"):
    try:
      picture = cards.embed(record["image"])
    except (ValueError, OSError) as error:
      raise ValueError(
        f"{evaluator}, {record['where']}: cannot read its image: {error}"
      ) from error
  elif with_file:
    picture = cards.of_file(record, THUMBNAIL)
  keys = ("index", "where", "prompt", "truth", "prediction", "logp", "score")
  keys += ("answers", "scores", "task", "kind", "image_ref")
  row = {"evaluator": evaluator} | {
    k: _finite(record[k]) for k in keys if k in record
  }
  shapes = []
  for kind, item in cards.objects(record):
    shape = {"kind": kind, "box": item.box, "label": item.label}
    if item.codes and picture:
      network = _codec(codec) if codec else cards.codec_of(record)
      mask = cards.overlay(kind, item.codes, network)
      shape |= {"mask": mask} if mask else {}
    shapes.append(shape)
  row |= {"shapes": shapes} if shapes else {}
  if picture:
    source, height, width = picture
    row["image"] = source
    row["sharp"] = max(height, width) <= cards.PIXELATED
  return row


def _finite(value):
  """Returns a value as JSON has it, None for numbers that JSON has not."""
  if isinstance(value, list | tuple):
    return [_finite(v) for v in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


_codec = functools.lru_cache(maxsize=1)(masks.load)
