"""Renders examples as cards: image, prompt, truth and prediction.

A card is made from one line of a predictions file:

  {"index": 7, "prompt": "detect dot", "truth": "<loc0000>... dot",
   "prediction": "<loc0008>... dot", "image": "iVBORw0...",
   "answers": [...], "task": "detect", "score": 0.83}

`image` is an encoded image in base64; `answers` are all the texts that count as
right; `score` is the example's score in 0..1 where its metric has one, else
the card tells whether the texts are equal. All but prompt and truth may be
missing.
"""

import base64
import html
import io
import re

from PIL import Image

from pg.codecs import boxes

# Larger images are shrunk: a page of full photos would weigh 20 MB.
LONGEST = 448
# Smaller ones are drawn with square pixels.
PIXELATED = 128


def grid(rows, note):
  """Returns cards, under a note and the key to the boxes' colours.

  Args:
    rows: list of dicts, lines of a predictions file.
    note: str, what part of the examples this is.
  """
  names = {
    "prompt": "in the prompt",
    "true": "truth",
    "predicted": "prediction",
  }
  body = "".join(_card(row) for row in rows)
  kinds = [kind for kind in names if f'<rect class="{kind}"' in body]
  key = "".join(f' <i class="key {k}"></i>{names[k]}' for k in kinds)
  key = f" Boxes:{key}." if kinds else ""
  return (
    f'<p class="note">{html.escape(note)}{key}</p>'
    f'<div class="cards">{body}</div>'
  )


def _card(row):
  truths = list(dict.fromkeys(row.get("answers") or [row["truth"]]))
  truth = " / ".join(map(_text, truths[:3])) + " / …" * (len(truths) > 3)
  prediction = ""
  if "prediction" in row:
    prediction = f"<dt>prediction</dt><dd>{_prediction(row, truths)}</dd>"
  task = html.escape(row.get("task", ""))
  return (
    f"<figure>{_picture(row)}<figcaption>"
    f"<p>{_text(row['prompt'])} <small>{task}</small></p><dl>"
    f"<dt>truth</dt><dd>{truth}</dd>{prediction}</dl></figcaption></figure>"
  )


def _prediction(row, truths):
  score = row.get("score")
  if score is None:
    accepted = {truth.strip() for truth in truths}
    score = float(row["prediction"].strip() in accepted)
  return f"{_text(row['prediction'])} {_mark(score)}"


def _mark(score):
  if score >= 1:
    return '<b class="good" title="right">✓</b>'
  if score <= 0:
    return '<b class="bad" title="wrong">✗</b>'
  return f'<b class="part" title="score of this example">{score:.2f}</b>'


def _text(text):
  """Returns text as HTML; four locations become four small numbers."""

  def numbers(match):
    bins = " ".join(str(int(n)) for n in re.findall("[0-9]{4}", match[0]))
    return f'<span class="loc">{bins}</span>'

  text = re.sub(
    r"(?:&lt;loc[0-9]{4}&gt;){4}", numbers, html.escape(text.strip())
  )
  return text or '<span class="loc">(nothing)</span>'


def _picture(row):
  """Returns the image with the boxes of all three texts drawn on it."""
  if not row.get("image"):
    return ""
  source, height, width = embed(row["image"])
  sharp = ' class="sharp"' if max(height, width) <= PIXELATED else ""
  shapes = [
    (kind, *shape)
    for kind, text in (
      ("prompt", row["prompt"]),
      ("true", row["truth"]),
      ("predicted", row.get("prediction", "")),
    )
    for shape in boxes.parse(text)[0]
  ]
  # Wide pale lines below make the coloured ones visible on any ground.
  halos = "".join(_rectangle("halo", box, "") for _, box, _ in shapes)
  lines = "".join(_rectangle(*shape) for shape in shapes)
  # The drawing is one unit high and wide and stretched over the image.
  drawing = '<svg viewBox="0 0 1 1" preserveAspectRatio="none">'
  return (
    f'<div class="picture"><img src="{source}" width="{width}"'
    f' height="{height}" alt=""{sharp}>'
    + (f"{drawing}{halos}{lines}</svg>" if shapes else "")
    + "</div>"
  )


def _rectangle(kind, box, label):
  y1, x1, y2, x2 = box
  return (
    f'<rect class="{kind}" x="{min(x1, x2):.4g}" y="{min(y1, y2):.4g}"'
    f' width="{abs(x2 - x1):.4g}" height="{abs(y2 - y1):.4g}">'
    f"<title>{html.escape(label)}</title></rect>"
  )


def embed(data):
  """Returns an image's data URL, height and width; shrinks a large one."""
  raw = base64.b64decode(data)
  image = Image.open(io.BytesIO(raw))
  kind = image.get_format_mimetype()
  if max(image.size) > LONGEST:
    image = image.convert("RGB")
    image.thumbnail((LONGEST, LONGEST))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    raw, kind = buffer.getvalue(), "image/jpeg"
  source = f"data:{kind};base64,{base64.b64encode(raw).decode()}"
  return source, image.height, image.width
