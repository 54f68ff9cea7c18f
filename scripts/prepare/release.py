"""What all preparations have in common: rows of a release become files.

A preparation is a function from a `Raw` release to its splits, mostly that of a
table of them, and one from a split to its rows:

  FILES = {"{}.json": "questions.zip from example.org"}
  splits = release.table(_rows, dict(train=443757), "questions", FILES)

Rows are dicts: "image" (a path, bytes, or a list of them) or "video" (a path),
and what else the release says, as JSON has it. `<out>/<split>.jsonl` names the
images where they lie; `<out>/<split>.array_record` holds them.
"""

import base64
import contextlib
import functools
import json
import os
from collections.abc import Callable
from typing import NamedTuple

from pg import atomic, command, config, progress
from pg import table as table_lib
from pg.data.formats import array_record
from pg.data.storage import files
from pg.pp import image
from scripts.prepare import release_files

Raw, Missing = release_files.Raw, release_files.Missing
_MEDIA = {"image", "video"}  # keys of a row with paths or bytes
FORMATS = {"jsonl": ".jsonl", "array_record": ".array_record"}


class _Incomplete(Exception):
  """Leaves a split unwritten."""


class Split(NamedTuple):
  """A split of a release."""

  name: str
  rows: Callable  # () -> iterator of dicts
  num: int | None = None  # rows that the release has; None: not published
  unit: str = "examples"
  partial: bool = False  # rows whose image is not there may be left out


def splits(raw, rows, sizes, unit="examples", files=(), *, partial=False):
  """Yields the Split of each line of a table.

  Args:
    raw: Raw.
    rows: function from it, the name of a split, and what else its line has, to
      an iterator of dicts.
    sizes: {split: `num` of Split, or a tuple of that and more}.
    unit, partial: of Split.
    files: {name: origin} of those needed; in both {} is the name of a split,
      {1} the first of what else its line has.
  """
  lines = {k: x if isinstance(x, tuple) else (x,) for k, x in sizes.items()}
  raw.need(
    {
      name.format(split, *more): files[name].format(split, *more)
      for name in files
      for split, (_, *more) in lines.items()
    }
  )
  for name, (num, *more) in lines.items():
    make = functools.partial(rows, raw, name, *more)
    yield Split(name, make, num, unit, partial)


def table(rows, sizes, unit, files, splits=splits, **options):
  """Returns the function from a Raw to the `splits` of a table."""
  more = dict(rows=rows, sizes=sizes, unit=unit, files=files, **options)
  return functools.partial(splits, **more)


def pick(row, *keys, **renamed):
  """Returns the values of keys, and some under new names: pick(q, text="q")."""
  return {k: row[k] for k in keys} | {k: row[v] for k, v in renamed.items()}


def grouped(pairs):
  """Returns {key: list of its values} of pairs of both."""
  found = {}
  for key, value in pairs:
    found.setdefault(key, []).append(value)
  return found


def match(found, key, lacks, where):
  """Returns the value of a key that another file of the release has.

  Raises:
    ValueError: it is not there; begins with `lacks` and `where`, such as
      "question 7 of q.json has no answer" and "a.json".
  """
  if key not in found:
    raise ValueError(f"{lacks} in {where}; are both of the same version?")
  return found[key]


def choice(choices, place, what):
  """Returns the right one of a question's choices.

  Raises:
    ValueError: none is at that place; begins with `what`, the question.
  """
  if not 0 <= place < len(choices):
    raise ValueError(
      f"{what} has {len(choices)} choices, and {place} is the place of the"
      " right one"
    )
  return choices[place]


class Prepared(NamedTuple):
  """What became of a split."""

  split: Split
  num: int | None  # rows in the file; None: it was there before
  num_absent: int = 0  # rows whose image is not there
  problems: tuple = ()


def main(splits, doc, **flags):
  """Runs a preparation from the command line.

  Args:
    splits: function from a Raw to an iterable of Split.
    doc: str, the script's docstring.
    **flags: name -> help of flags of this script; `splits` is given their
      values by name, bool.
  """

  def run(args):
    given = {name: getattr(args, name) for name in flags}
    only = [name for name in args.splits.split(",") if name]
    make = functools.partial(splits, **given)
    more = dict(allow_incomplete=args.allow_incomplete, only=only)
    try:
      prepare(make, args.raw, args.out, args.format, **more)
    except Missing as e:
      hint = "see --help for all of the release, images included"
      raise ValueError(f"{e}\n{hint}") from e

  switch = functools.partial(dict, action="store_true")
  command.run(
    run,
    doc,
    with_config=False,
    raw=dict(required=True, metavar="DIR", help="with the unpacked release"),
    out=dict(required=True, help="folder for the splits, data/<name>"),
    format=dict(
      default="jsonl",
      choices=FORMATS,
      help="jsonl names images where they lie, array_record holds them",
    ),
    splits=dict(default="", help="only these: train,val"),
    allow_incomplete=switch(help="write what is there, if some is missing"),
    **{name: switch(help=text) for name, text in flags.items()},
  )


def prepare(
  splits,
  raw,
  out,
  format="jsonl",
  *,
  allow_incomplete=False,
  only=(),
  quiet=False,
):
  """Writes the splits of a release; those that are there already are kept.

  With `allow_incomplete` one that lacks rows is made anew where more of them
  are there by now.

  Args:
    splits: function from a Raw to an iterable of Split.
    raw: Raw, or the folder of the release.
    out: str, the folder to write to.
    format: "jsonl", or "array_record" with images in it.
    allow_incomplete: bool, whether to write splits that lack something.
    only: names of splits, if not all.
    quiet: bool, whether to print nothing.

  Returns:
    tuple of Prepared.

  Raises:
    ValueError: something is wrong with the release; without `allow_incomplete`
      also files or images that are not there, or another number of rows than
      was published. Lists all of it; splits without a problem are written.
  """
  suffix = config.lookup(FORMATS, format, "format")
  raw = raw if isinstance(raw, Raw) else Raw(raw)
  raw.lenient = allow_incomplete or bool(only)
  found = {split.name: split for split in splits(raw)}
  for name in only:
    config.lookup(found, name, "split")
  done = []
  for name in only or found:
    path, split = os.path.join(out, name + suffix), found[name]
    num = _num_rows(path) if os.path.exists(path) else 0
    is_short = split.num is not None and num != split.num
    if num and not (allow_incomplete and is_short):
      done.append(_kept(split, path, num, is_short))
    else:
      done.append(_write(raw, split, path, allow_incomplete, quiet, num))
  if not quiet:
    print(summary(done, out, suffix))
  problems = list(dict.fromkeys(p for x in done for p in x.problems))
  absent = [
    f"{num:,} images or clips are missing; get {archive}"
    for archive, num in raw.num_absent.items()
  ]
  notes = []
  (notes if all(x.split.partial for x in done) else problems).extend(absent)
  if allow_incomplete:
    notes, problems = [*problems, *notes], []
  if notes and not quiet:
    print("\n".join(notes))
  if problems:
    raise ValueError(
      "the release is not complete:\n  "
      + "\n  ".join(problems)
      + "\n--allow_incomplete writes what is there"
    )
  return tuple(done)


def _kept(split, path, num, is_short):
  """Returns what is to say of a split that was there before, with num rows."""
  lost = ()
  if is_short and not split.partial:
    lost = (
      f"{path} was there, with {num:,} of {split.num:,} {split.unit}: delete"
      " it to make it anew",
    )
  return Prepared(split, None, problems=lost)


def _num_rows(path):
  if path.endswith(".array_record"):
    return len(array_record.ArrayRecord({"all": [path]}))
  with open(path, "rb") as f:
    return sum(1 for _ in f)


def _write(raw, split, path, allow_incomplete, quiet, before):
  """Writes a split to a file and returns what became of it.

  A file with `before` rows is replaced only by more rows.
  """
  counts, lost = {"rows": 0, "absent": 0}, []

  def rows():
    try:
      bar = dict(desc=split.name, total=split.num, leave=False, disable=quiet)
      for row in progress.Bar(split.rows(), **bar):
        if not raw.absent.isdisjoint(_paths(row)):
          counts["absent"] += 1
          continue
        counts["rows"] += 1
        yield row
    except Missing as e:
      lost.extend(str(e).splitlines())

  write = _array_record if path.endswith(".array_record") else _jsonl
  try:
    with contextlib.suppress(_Incomplete), atomic.replacing(path) as part:
      write(part, rows())
      lost += _problems(split, counts, lost)
      complete = not lost and (split.partial or not counts["absent"])
      if counts["rows"] <= before or not (allow_incomplete or complete):
        raise _Incomplete
  except (KeyError, TypeError) as e:
    what = f"{type(e).__name__} {e}"
    raise ValueError(
      f"split {split.name}: row {sum(counts.values())} of the release is not as"
      f" expected: {what}; it may be of another version"
    ) from e
  num = None if before and counts["rows"] <= before else counts["rows"]
  return Prepared(split, num, counts["absent"], tuple(lost))


def _problems(split, counts, lost):
  """Returns what is wrong with how many rows a split has."""
  total = sum(counts.values())
  if not lost and split.num is not None and total != split.num:
    return [
      f"split {split.name} has {total:,} {split.unit} and {split.num:,} were"
      " published; is it another version, or not all of it?"
    ]
  if not lost and not total:
    return [f"split {split.name} has no {split.unit}"]
  if split.partial and not lost and not counts["rows"]:
    return [f"split {split.name}: none of {total:,} {split.unit} is there"]
  return []


def _paths(row):
  media = [row.get(key) for key in _MEDIA]
  media = [y for x in media for y in (x if isinstance(x, list) else [x])]
  return [x for x in media if isinstance(x, str)]


def _jsonl(path, rows):
  """Writes rows as JSON lines, with the paths of images from the file."""
  folder = os.path.abspath(os.path.dirname(path))

  def name(media):
    if isinstance(media, bytes):
      return {"base64": base64.b64encode(media).decode()}
    return os.path.relpath(media, folder)

  with open(path, "w", encoding="utf-8") as f:
    for row in rows:
      if _MEDIA.isdisjoint(row):
        raise ValueError(f'a row has neither "image" nor "video": {row}')
      row = _with_media(row, name)
      f.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def _array_record(path, rows):
  """Writes rows with their images as ArrayRecord."""

  def data(media):
    return media if isinstance(media, bytes) else files.read(media, "/")

  array_record.write(path, (_with_media(row, data) for row in rows))


def _with_media(row, convert):
  """Returns a row with its images, or its video, as a function makes them."""
  media = {k: image.each(row[k], convert) for k in row.keys() & _MEDIA}
  return {**row, **media}


def summary(done, out, suffix):
  """Returns a table of the splits, one a line."""
  lines = [["split", "rows", "published", "left out", ""]]
  for split, num, num_absent, problems in done:
    wanted = "" if split.num is None else f"{split.num:,}"
    path = os.path.join(out, split.name + suffix)
    there = path if os.path.exists(path) else "not written"
    rows = "was there" if num is None else f"{num:,}"
    note = "  ! " + problems[0].splitlines()[0] if problems else ""
    lines.append([split.name, rows, wanted, f"{num_absent:,}", there + note])
  return "\n".join(table_lib.lines(lines, words=(0, 4)))
