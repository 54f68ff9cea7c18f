r"""Takes images that evaluation has out of data to train on.

  python -m scripts.prepare.near_duplicates --data data/cc3m --out clean/cc3m \
    --evaluation data/vqav2:val+test,data/textvqa:val,data/pope

Images count as the same if one is the other in another size, or encoded anew
(pg/inspect/near.py). All splits of --data are written to --out, in the format
that they have, without the rows of such images; beside each, what was left out
and what it is like: `train.left_out.tsv`. Then `:data=clean` trains on these.
Rows that cannot be read are left out, too. A split that is there already is
kept.
"""

import concurrent.futures
import functools
import os
import pathlib

from pg import atomic, command, progress
from pg.data.formats import prepared
from pg.inspect import near
from pg.pp import image
from scripts.prepare import release

CHUNK = 256  # rows that are read at once


def splits(raw, index, out):
  """Yields the Split of each file of prepared data, without some rows.

  Args:
    raw: release.Raw, the folder of the data.
    index: near.Index of the images of evaluation.
    out: str, where to say what is left out.
  """
  found = [
    path.name.partition(".") for path in pathlib.Path(raw.root).iterdir()
  ]
  names = {x for x, _, rest in found if rest.startswith(tuple(release.FORMATS))}
  if not names:
    raise ValueError(f"{raw.root} has no splits that scripts/prepare wrote")
  for name in sorted(names):
    rows = functools.partial(_rows, raw.root, name, index, out)
    yield release.Split(name, rows, None)


def _rows(folder, name, index, out):
  source, left_out = prepared.find(folder, name), []
  for i, row, thumbs, problem in _thumbs(source):
    found = [problem] if problem else filter(None, map(index.find, thumbs))
    if same := next(iter(found), None):
      left_out.append(f"{source.where(i)}\t{same}\n")
      continue
    if ref := source.image_ref(i):
      row["image"] = ref
    yield row
  os.makedirs(out, exist_ok=True)
  path = os.path.join(out, f"{name}.left_out.tsv")
  atomic.write(path, "".join(left_out))
  print(f"{path}: {len(left_out):,} of {len(source):,} rows")


def _thumbs(source):
  """Yields (i, row, `near.thumb` of its images, what is wrong) in order."""

  def read(i):
    try:
      row = source[i]
      found = row.get("image", [])
      found = found if isinstance(found, list) else [found]
      return i, row, [near.thumb(image.to_rgb(x)) for x in found], None
    except ValueError as e:
      return i, {}, [], f"cannot be read: {' '.join(str(e).split())}"

  with concurrent.futures.ThreadPoolExecutor() as pool:
    for start in range(0, len(source), CHUNK):
      rows = range(start, min(start + CHUNK, len(source)))
      yield from pool.map(read, rows)


def read(names):
  """Returns a near.Index of the images of prepared splits.

  Args:
    names: list of str, "data/vqav2:val+test"; without ":" it is all of them.

  Raises:
    prepared.Missing: there is no such folder or split.
  """
  index = near.Index()
  for name in names:
    folder, _, text = name.partition(":")
    source = prepared.find(folder, text or "all")
    bar = dict(desc=name, total=len(source), leave=False)
    for i, _, thumbs, problem in progress.Bar(_thumbs(source), **bar):
      if problem:
        raise ValueError(f"{source.where(i)} {problem}")
      for thumb in thumbs:
        index.add(thumb, source.where(i))
  return index


def main(args):
  if os.path.abspath(args.data) == os.path.abspath(args.out):
    raise ValueError(f"--out {args.out} is --data: give another folder")
  index = read([x for x in args.evaluation.split(",") if x])
  make = functools.partial(splits, index=index, out=args.out)
  release.prepare(make, args.data, args.out, args.format)


if __name__ == "__main__":
  command.run(
    main,
    __doc__,
    with_config=False,
    data=dict(required=True, metavar="DIR", help="prepared data, data/<name>"),
    evaluation=dict(required=True, help="prepared data, DIR[:SPLITS],..."),
    out=dict(required=True, help="another folder"),
    format=dict(
      default="jsonl",
      choices=release.FORMATS,
      help="jsonl names images where they lie, array_record holds them",
    ),
  )
