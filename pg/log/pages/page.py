"""The HTML around every page: one column, system fonts, light and dark."""

import html

CSS = """
:root {
  color-scheme: light dark;
  --paper: #fdfdfb; --ink: #20201e; --soft: #6d6b66; --rule: #dcdad3;
  --line: #2b5c8a; --good: #2a7d4f; --bad: #b3372b; --part: #8a6a12;
  --true: #00936b; --predicted: #e06c00; --prompt: #2f7fd0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #161614; --ink: #e4e2dc; --soft: #98958d; --rule: #383631;
    --line: #84b4e0; --good: #67bd8c; --bad: #e58074; --part: #d3b35c;
    --true: #19c796; --predicted: #ff9a3d; --prompt: #6db3f5;
  }
}
* { box-sizing: border-box; }
html { background: var(--paper); color: var(--ink); }
body {
  max-width: 45rem; margin: 4rem auto 6rem; padding: 0 1.25rem;
  font: 1.0625rem/1.5 Charter, "Bitstream Charter", "Iowan Old Style",
    "Palatino Linotype", Palatino, "Liberation Serif", Georgia, serif;
  font-variant-numeric: lining-nums tabular-nums;
}
h1, h2 { font-weight: 600; line-height: 1.2; text-wrap: balance; }
h1 { font-size: 2rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 3.25rem 0 .9rem; }
header p { margin: .4rem 0 0; color: var(--soft); }
header code { font-size: .8125rem; overflow-wrap: anywhere; }
.note { color: var(--soft); font-size: .9rem; margin: .7rem 0; }
code, .facts td, .loc {
  font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono",
    monospace;
}

table { border-collapse: collapse; width: 100%; }
th { font-weight: 400; text-align: left; }
th, td { padding: .22rem 1rem .22rem 0; vertical-align: baseline; }
.wide { overflow-x: auto; }
.scores { border-bottom: 1.5px solid var(--ink); white-space: nowrap; }
.scores thead th {
  border-top: 1.5px solid var(--ink); border-bottom: 1px solid var(--ink);
  font-size: .9rem;
}
.scores th:nth-child(n+3), .scores td:nth-child(n+3) {
  text-align: right; padding: .22rem 0 .22rem 1rem;
}
.scores tbody th {
  white-space: normal; overflow-wrap: anywhere; min-width: 5rem;
}
.scores tbody .first:not(:first-child) > * {
  border-top: 1px solid var(--rule);
}
.scores .soft { color: var(--soft); }
.facts { border-block: 1px solid var(--rule); line-height: 1.35; }
.facts th { width: 34%; color: var(--soft); font-size: .9375rem; }
.facts td { font-size: .8125rem; padding-right: 0; }
.facts th, .facts td { overflow-wrap: anywhere; padding-block: .14rem; }
.facts tr:first-child > * { padding-top: .5rem; }
.facts tr:last-child > * { padding-bottom: .5rem; }

figure { margin: 0; min-width: 0; }
.charts {
  display: grid; gap: 1.6rem 1.5rem;
  grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr));
}
.charts figcaption {
  display: flex; justify-content: space-between; gap: 1rem;
  font-size: .8125rem; margin-bottom: .15rem;
}
.charts code { overflow-wrap: anywhere; }
.charts figcaption span { color: var(--soft); white-space: nowrap; }
.charts .note { font-size: .8125rem; margin: .1rem 0 0; }
.charts svg { display: block; width: 100%; height: auto; }
.charts path, .charts polyline {
  fill: none; vector-effect: non-scaling-stroke; stroke-linejoin: round;
}
.charts text { font-size: 10.5px; fill: var(--soft); }
.axis.y, text.blind { text-anchor: end; }
.grid { stroke: var(--rule); }
polyline.line { stroke: var(--line); stroke-width: 1.5; }
circle.line { fill: var(--line); }
.band { fill: var(--line); opacity: .22; }
path.blind { stroke: var(--soft); stroke-dasharray: 4 3; }

.cards {
  display: grid; gap: 1.8rem 1.25rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(9.75rem, 44%), 1fr));
}
.picture { position: relative; margin-bottom: .45rem; }
.picture img { display: block; width: 100%; height: auto; }
.picture img.sharp { image-rendering: pixelated; }
.picture svg { position: absolute; inset: 0; width: 100%; height: 100%; }
rect { fill: none; vector-effect: non-scaling-stroke; }
rect.halo { stroke: #fff; stroke-width: 5; opacity: .7; }
rect.true { stroke: #00936b; stroke-width: 3; }
rect.predicted { stroke: #e06c00; stroke-width: 2; stroke-dasharray: 6 4; }
rect.prompt { stroke: #2f7fd0; stroke-width: 2; }
.key {
  display: inline-block; width: 1.4rem; margin: 0 .35rem .22rem .5rem;
  border-top: 3px solid;
}
.key.true { color: var(--true); }
.key.predicted { color: var(--predicted); border-top-style: dashed; }
.key.prompt { color: var(--prompt); }
.cards figcaption { font-size: .875rem; line-height: 1.35; }
.cards p { margin: 0 0 .25rem; overflow-wrap: anywhere; }
.cards small { color: var(--soft); font-style: italic; }
dl {
  display: grid; gap: 0 .6rem; margin: 0;
  grid-template-columns: auto minmax(0, 1fr);
}
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
b { font-weight: 400; }
.good { color: var(--good); }
.bad { color: var(--bad); }
.part { color: var(--part); }
.loc { font-size: .6875rem; color: var(--soft); }
@media print { body { margin: 0 auto; } figure, tr { break-inside: avoid; } }
"""


def section(name, body):
  """Returns a section as HTML: `name` is plain text; without body nothing."""
  return (
    f"<section><h2>{html.escape(name)}</h2>{body}</section>" if body else ""
  )


def render(title, sections):
  """Returns a whole page as HTML.

  Args:
    title: str, plain text.
    sections: list of str, HTML; empty ones vanish.
  """
  return (
    '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f"<title>{html.escape(title)}</title>\n<style>{CSS}</style>\n"
    + "\n".join(filter(None, sections))
    + "\n</html>\n"
  )
