"""Looks at rows and their images before a run depends on them."""

import numpy as np

from pg.data.storage import files
from pg.pp import image as image_ops

# Rows that are looked at, at most.
_LOOKED_AT = 50_000


class Checked:
  """The part of rows.Rows that checks them."""

  def check(self, limit=100):
    """Validates rows, that their images are there, and that some decode.

    Up to 50,000 rows are looked at, evenly spread. Images at URLs are not
    downloaded for that.

    Args:
      limit: int, of how many rows to decode the images, evenly spread; None is
        all that are looked at.

    Raises:
      ValueError: names the first row with a problem, and says how many have
        one.
    """
    rows = spread(len(self), _LOOKED_AT)
    decoded = {rows[k] for k in spread(len(rows), limit)}
    problems = []
    for i in rows:
      try:
        with self._named(i):
          self._check(i, decode=i in decoded)
      except ValueError as e:
        problems.append(e)
    if problems:
      raise ValueError(
        f"{problems[0]} (rows with a problem: {len(problems)} of {len(rows)})"
      ) from problems[0]

  def _check(self, i, *, decode):
    row, root = self._located(i)
    if "video" in row:
      files.clip(row["video"], root)
      return
    names = row["image"]
    for name in names if isinstance(names, list) else [names]:
      files.check(name, root)
      if not decode or files.is_url(name, root):
        continue
      try:
        encoded = self._read(name, root)
        image_ops.to_rgb(encoded)
        self._size(row, encoded)
      except ValueError as e:
        raise ValueError(f"{files.short(name)}: {e}") from e


def spread(size, limit):
  """Returns numbers below `size`, all or `limit` of them evenly spread."""
  if limit is None or limit >= size:
    return range(size)
  return np.linspace(0, size - 1, limit).astype(int).tolist()
