"""Renders examples as cards: image, prompt, truth and prediction.

A card is made from one line of a predictions file:

  {"index": 7, "prompt": "detect dot", "truth": "<loc0000>... dot",
   "prediction": "<loc0008>... dot", "image": "iVBORw0...",
   "answers": [...], "task": "detect", "score": 0.83}

`image` is an encoded image in base64, without it the file that `image_ref`
names is shown; `answers` are all the texts that count as
right; `score` is the example's score in 0..1 where its metric has one, else
the card tells whether the texts are equal. All but prompt and truth may be
missing. The codec of masks is `id["codec"]`, "nano" where that is missing.
"""

import base64
import functools
import html
import io
import re

import numpy as np
from PIL import Image, ImageOps

from pg.codecs import boxes, masks

# Larger images are shrunk: a page of full photos would weigh 20 MB.
LONGEST = 448
# Smaller ones are drawn with square pixels.
PIXELATED = 128


# Colours of masks, those of boxes in page.CSS.
_COLORS = {"true": (0, 147, 107, 110), "predicted": (224, 108, 0, 110)}
_TOKENS = re.compile("((?:<loc[0-9]{4}>){4}|(?:<seg[0-9]{3}>)+)")


def grid(rows, note, longest=None):
  """Returns cards, under a note and the key to the boxes' colours.

  Args:
    rows: list of dicts, lines of a predictions file.
    note: str, what part of the examples this is.
    longest: int, characters of a text that are shown; None shows all.
  """
  names = {
    "prompt": "in the prompt",
    "true": "truth",
    "predicted": "prediction",
  }
  body = "".join(_card(row, longest) for row in rows)
  kinds = [kind for kind in names if f'<rect class="{kind}"' in body]
  key = "".join(f' <i class="key {k}"></i>{names[k]}' for k in kinds)
  key = f" Boxes:{key}." if kinds else ""
  return (
    f'<p class="note">{html.escape(note)}{key}</p>'
    f'<div class="cards">{body}</div>'
  )


def _card(row, longest):
  text = functools.partial(_text, longest=longest)
  truths = list(dict.fromkeys(row.get("answers") or [row["truth"]]))
  truth = " / ".join(map(text, truths[:3])) + " / …" * (len(truths) > 3)
  prediction = ""
  if "prediction" in row:
    prediction = text(row["prediction"]) + f" {_mark(score(row))}"
    prediction = f"<dt>prediction</dt><dd>{prediction}</dd>"
  task = html.escape(row.get("task", ""))
  return (
    f"<figure>{_picture(row)}<figcaption>"
    f"<p>{text(row['prompt'])} <small>{task}</small></p><dl>"
    f"<dt>truth</dt><dd>{truth}</dd>{prediction}</dl></figcaption></figure>"
  )


def score(row):
  """Returns the score of a row with a prediction, in 0..1."""
  if row.get("score") is not None:
    return row["score"]
  truths = row.get("answers") or [row["truth"]]
  return float(row["prediction"].strip() in {t.strip() for t in truths})


def _mark(score):
  if score >= 1:
    return '<b class="good" title="right">✓</b>'
  if score <= 0:
    return '<b class="bad" title="wrong">✗</b>'
  return f'<b class="part" title="score of this example">{score:.2f}</b>'


def _text(text, longest=None):
  """Returns text as HTML.

  Four locations become four small numbers, and the codes of a mask how many
  there are: the mask is drawn.
  """
  out, left = "", longest
  for i, part in enumerate(_TOKENS.split(text.strip())):
    names = re.findall("[0-9]+", part) if i % 2 else ()
    if part.startswith("<loc") and names:
      part = " ".join(str(int(n)) for n in names)
    elif names:
      part = f"<seg>×{len(names)}"
    shown = part[:left]
    if left is not None:
      left -= len(shown)
    plain = html.escape(shown)
    out += f'<span class="loc">{plain}</span>' if names else plain
    if shown != part:
      return f"{out} …"
  return out or '<span class="loc">(nothing)</span>'


def _picture(row):
  """Returns the image with the boxes and masks of its texts drawn on it."""
  found = embed(row["image"]) if row.get("image") else of_file(row)
  if not found:
    return ""
  source, height, width = found
  sharp = ' class="sharp"' if max(height, width) <= PIXELATED else ""
  shapes = list(objects(row))
  drawn = "".join(_mask(row, *shape) for shape in shapes)
  # Wide pale lines below make the coloured ones visible on any ground.
  drawn += "".join(_rectangle("halo", one.box, "") for _, one in shapes)
  drawn += "".join(_rectangle(k, one.box, one.label) for k, one in shapes)
  # The drawing is one unit high and wide and stretched over the image.
  drawing = '<svg viewBox="0 0 1 1" preserveAspectRatio="none">'
  return (
    f'<div class="picture"><img src="{source}" width="{width}"'
    f' height="{height}" alt=""{sharp}>'
    + (f"{drawing}{drawn}</svg>" if shapes else "")
    + "</div>"
  )


def objects(row):
  """Yields (kind, boxes.Object) of a row's texts, which are such as "true"."""
  texts = ("prompt", "prompt"), ("true", "truth"), ("predicted", "prediction")
  for kind, key in texts:
    for one in boxes.read(row.get(key, ""))[0]:
      yield kind, one


def _mask(row, kind, shape):
  url = shape.codes and overlay(kind, shape.codes, codec_of(row))
  if not url:
    return ""
  return f'<image {_place(shape.box)} href="{url}" preserveAspectRatio="none"/>'


def overlay(kind, codes, codec):
  """Returns an object's mask, as wide as its box, as a data URL.

  Args:
    kind: str, "true" or "predicted"; others have no masks.
    codes: tuple of 16 ints.
    codec: masks.Codec, or None where there is none.

  Returns:
    str, "" if there is nothing to draw.
  """
  if codec is None or kind not in _COLORS:
    return ""
  inside = masks.decode(codec, codes) > 0
  image = np.zeros((*inside.shape, 4), np.uint8)
  image[inside] = _COLORS[kind]
  out = io.BytesIO()
  Image.fromarray(image).quantize(2).save(out, "PNG")
  return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


def codec_of(row):
  """Returns the masks.Codec that a row names; None if it cannot be read."""
  return _network(str(row.get("id", {}).get("codec") or "nano"))


@functools.lru_cache(maxsize=4)
def _network(name):
  try:
    return masks.load(masks.NANO if name == "nano" else name)
  except (ValueError, OSError):
    return None


def _rectangle(kind, box, label):
  return (
    f'<rect class="{kind}" {_place(box)}>'
    f"<title>{html.escape(label)}</title></rect>"
  )


def _place(box):
  y1, x1, y2, x2 = box
  return (
    f'x="{min(x1, x2):.4g}" y="{min(y1, y2):.4g}"'
    f' width="{abs(x2 - x1):.4g}" height="{abs(y2 - y1):.4g}"'
  )


def encode(image):
  """Returns an image as base64 text: a small one as PNG, another one as JPEG.

  Args:
    image: u8[height, width, 3]; a large one is shrunk.
  """
  out, image = io.BytesIO(), Image.fromarray(image)
  if max(image.size) <= PIXELATED:
    image.save(out, "PNG")
  else:
    image.thumbnail((LONGEST, LONGEST))
    image.save(out, "JPEG", quality=88)
  return base64.b64encode(out.getvalue()).decode()


def embed(data):
  """Returns an image's data URL, height and width; shrinks a large one."""
  raw = base64.b64decode(data)
  image = Image.open(io.BytesIO(raw))
  if max(image.size) > LONGEST:
    return embed(encode(np.asarray(image.convert("RGB"))))
  kind, data = image.get_format_mimetype(), base64.b64encode(raw).decode()
  return f"data:{kind};base64,{data}", image.height, image.width


def of_file(row, longest=LONGEST):
  """Returns what `embed` does of the files that a row names.

  Several are shown side by side as squares, as the model sees them. None where
  one is not there, as one at a URL, or is no image.
  """
  names = row.get("image_ref") or []
  names = names if isinstance(names, list) else [names]
  if not names or not all(isinstance(name, str) for name in names):
    return None
  try:
    images = [_read(name, longest) for name in names]
  except (OSError, ValueError, Image.DecompressionBombError):
    return None
  if len(images) > 1:
    side = max(max(image.size) for image in images)
    images = [image.resize((side, side)) for image in images]
  return embed(encode(np.concatenate(images, axis=1)))


def _read(name, longest):
  """Returns a file's image, upright and at most that long."""
  with Image.open(name) as image:
    image.draft("RGB", (longest, longest))  # JPEG: decodes no more than needed
    image = ImageOps.exif_transpose(image).convert("RGB")
  image.thumbnail((longest, longest))
  return image
