"""Plots curves over steps as SVG inside a web page.

The colours come from the page's style sheet: classes `line`, `band`, `grid`,
`axis`, `blind`.
"""

import html
import itertools
import math

# The size a chart has on the page, so that its text is as large as meant.
WIDTH, HEIGHT = 340, 170
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 10, 24
# More points than that are drawn as means with a band from least to greatest.
BINS = 100


def chart(name, points, *, last_step=0, blind=None, over="steps", marks=()):
  """Returns one curve with its axes as an SVG element.

  Args:
    name: str, read out to those who cannot see the drawing.
    points: list of (step, value), in any order; a value that is not finite
      breaks the line.
    last_step: int, where the axis ends at least, so that charts line up.
    blind: float, a level to draw as a dashed line.
    over: str, what the points are counted in.
    marks: list of (step, text), where something begins.

  Raises:
    ValueError: no point is finite.
  """
  points = sorted(points)
  finite = [v for _, v in points if math.isfinite(v)]
  if not finite:
    raise ValueError(f"{name!r} has no finite value to draw")
  levels = finite + [blind] * (blind is not None)
  y_ticks = ticks(*_range(min(levels), max(levels)), 4)
  first, last = points[0][0], max(points[-1][0], last_step)
  # A curve that begins early stands on an axis that begins at step 0.
  first = 0 if first <= 0.5 * last else first
  last = max(last, first + 1)
  x_ticks = ticks(first, last, 4)
  x_ticks = [t for t in x_ticks if first <= t <= last and t == int(t)]

  def x(step):
    share = (step - first) / (last - first)
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

  def y(value):
    share = (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
    return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

  parts = axes(x_ticks, y_ticks, x, y) + _marks(points, x, y)
  if blind is not None:
    parts.append(
      f'<path class="blind" d="M{LEFT} {y(blind)}H{WIDTH - RIGHT}"/>'
      f'<text class="blind" x="{WIDTH - RIGHT}" y="{y(blind) - 4}">blind</text>'
    )
  for step, text in marks:
    at = x(step)
    parts.append(
      f'<path class="blind" d="M{at} {TOP}V{HEIGHT - BOTTOM}"/>'
      f'<text class="blind" x="{at - 4}" y="{TOP + 8}">'
      f"{html.escape(text)}</text>"
    )
  return (
    f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
    f"<title>{html.escape(name)} over {over}</title>{''.join(parts)}</svg>"
  )


def ticks(low, high, count):
  """Returns round numbers from at or below `low` to at or above `high`.

  They are multiples of 1, 2 or 5 times a power of ten, the finest that needs no
  more than `count` steps between them: ticks(0.3, 2.1, 4) == [0, 1, 2, 3].
  """
  rough = (high - low) / count
  power = 10.0 ** math.floor(math.log10(rough))
  for step in (m * power for m in (1, 2, 5, 10, 20)):
    # The tolerance keeps 0.30000000000000004 from costing a step.
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if last - first <= count:
      break
  decimals = max(0, 1 - math.floor(math.log10(step)))
  return [round(i * step, decimals) for i in range(first, last + 1)]


def labels(values):
  """Returns the texts of ticks: 1,500; 20k; 0.25; 5·10⁻⁴."""
  top = max(abs(v) for v in values)
  if top < 0.001 or top >= 1e7:
    return [_scientific(v) for v in values]
  if top >= 10_000 and all(v % 1000 == 0 for v in values):
    return [f"{v / 1000:,.0f}k" if v else "0" for v in values]
  decimals = max(_decimals(v) for v in values)
  return [f"{v:,.{decimals}f}".replace("-", "−") for v in values]


def label(value):
  """Returns the text of one value: 0.366, 1,500, 6.6·10⁻⁹, nan."""
  if not math.isfinite(value):
    return str(value)
  if value and (abs(value) < 0.001 or abs(value) >= 1e7):
    return _scientific(value)
  decimals = 0 if value == round(value) or abs(value) >= 1000 else 3
  return f"{value:,.{decimals}f}".replace("-", "−")


def _decimals(value):
  return len(f"{value:.10f}".rstrip("0").partition(".")[2])


def _scientific(value):
  if value == 0:
    return "0"
  mantissa, exponent = f"{value:.1e}".split("e")
  power = str(int(exponent)).translate(
    str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
  )
  return f"{mantissa.removesuffix('.0')}·10{power}".replace("-", "−")


def _range(low, high):
  """Returns the values to span: with 0 where the curve comes near to it."""
  if 0 < low < 0.5 * high:
    low = 0
  if low == high:
    low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
  return low, high


def axes(x_ticks, y_ticks, x, y, height=HEIGHT):
  """Returns SVG elements: a line and a text per tick of y, a text per one of x.

  `x` and `y` are functions from a value to its place in the drawing.
  """
  parts = []
  for value, text in zip(y_ticks, labels(y_ticks)):
    parts.append(f'<path class="grid" d="M{LEFT} {y(value)}H{WIDTH - RIGHT}"/>')
    parts.append(
      f'<text class="axis y" x="{LEFT - 6}" y="{y(value) + 3.5}">{text}</text>'
    )
  for step, text in zip(x_ticks, labels(x_ticks)):
    at = x(step)
    # The outermost texts would stick out of the drawing.
    anchor = "end" if at > WIDTH - RIGHT - 12 else "middle"
    parts.append(
      f'<text class="axis" x="{at}" y="{height - 6}"'
      f' text-anchor="{anchor}">{text}</text>'
    )
  return parts


def _marks(points, x, y):
  """Returns the line, in pieces between breaks, and the band around it."""
  parts = []
  size = -(-len(points) // BINS)
  for finite, run in itertools.groupby(points, lambda p: math.isfinite(p[1])):
    if not finite:
      continue
    run = list(run)
    bins = _bin(run, size)
    line = " ".join(f"{x(s)},{y(mean)}" for s, mean, _, _ in bins)
    if len(run) > len(bins):
      over = [f"{x(s)},{y(high)}" for s, _, _, high in bins]
      under = [f"{x(s)},{y(low)}" for s, _, low, _ in reversed(bins)]
      parts.append(f'<polygon class="band" points="{" ".join(over + under)}"/>')
    parts.append(f'<polyline class="line" points="{line}"/>')
    if len(points) <= 24:
      parts += [
        f'<circle class="line" cx="{x(s)}" cy="{y(v)}" r="2"/>' for s, v in run
      ]
  return parts


def _bin(points, size):
  """Returns (step, mean, least, greatest) of every `size` points."""
  bins = []
  for start in range(0, len(points), size):
    steps, values = zip(*points[start : start + size])
    mean = sum(values) / len(values)
    bins.append((sum(steps) / len(steps), mean, min(values), max(values)))
  return bins
