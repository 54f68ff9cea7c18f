"""Draws docs/images/answers.png: what `nano` answers to the README's questions.

python -m scripts.readme_picture

The commands of pg.predict that the README shows are asked as they stand there.
"""

import argparse
import pathlib
import re
import shlex
import textwrap

from PIL import Image, ImageDraw, ImageFont, ImageOps

import pg

ROOT = pathlib.Path(__file__).parents[1]
OUT = ROOT / "docs/images/answers.png"
SIZE, MARGIN, LINE = (380, 300), 16, 24  # pixels
WIDTH = 44  # characters
INK, SOFT, PAPER = "#20201e", "#6d6b66", "#ffffff"


def questions(text):
  """Returns [(image, [prompt])] of the commands in a text, of `nano` alone."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--image")
  parser.add_argument("--prompt", nargs="+")
  found = []
  for command in re.findall(r"^bash scripts/run.sh predict (.*)$", text, re.M):
    if "--checkpoint" not in command:
      words = shlex.split(command, comments=True)
      args, _ = parser.parse_known_args(words)
      found.append((args.image, args.prompt))
  return found


def panel(model, image, prompts):
  """Returns a picture of the answers about an image."""
  answers, lines = model.predict(str(ROOT / image), prompts), []
  for prompt, answer in zip(prompts, answers):
    text = ", ".join(box.label for box in answer.boxes) or answer.text
    lines += [(prompt, SOFT), *((x, INK) for x in textwrap.wrap(text, WIDTH))]
  made = Image.new(
    "RGB", (SIZE[0], SIZE[1] + LINE * len(lines) + MARGIN), PAPER
  )
  pen, font = ImageDraw.Draw(made), ImageFont.load_default(16)
  with_boxes = [x for x in answers if x.boxes] or answers
  drawn = ImageOps.contain(with_boxes[0].draw(), SIZE)
  made.paste(drawn, ((SIZE[0] - drawn.width) // 2, SIZE[1] - drawn.height))
  for i, (text, color) in enumerate(lines):
    pen.text((0, SIZE[1] + MARGIN + LINE * i), text, color, font)
  return made


def main():
  model = pg.load()
  asked = questions((ROOT / "README.md").read_text(encoding="utf-8"))
  panels = [panel(model, *each) for each in asked]
  width = sum(x.width for x in panels) + MARGIN * (len(panels) + 1)
  height = max(x.height for x in panels) + 2 * MARGIN
  whole, x = Image.new("RGB", (width, height), PAPER), MARGIN
  for each in panels:
    whole.paste(each, (x, MARGIN))
    x += each.width + MARGIN
  whole.quantize(128).save(OUT, optimize=True)
  print(OUT.relative_to(ROOT))


if __name__ == "__main__":
  main()
