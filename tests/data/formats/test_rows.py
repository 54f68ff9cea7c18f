"""Row i of sequences that stand one after the other."""

import pytest

from pg.data.formats import rows as rows_lib


@pytest.mark.parametrize("sizes", [[3], [2, 0, 3, 0], [0, 1], [0], []])
def test_every_row_is_found_once_and_in_order(sizes):
  rows = rows_lib.Concatenation(sizes)
  want = [(k, row) for k, size in enumerate(sizes) for row in range(size)]
  assert [rows.locate(i) for i in range(len(rows))] == want
  for i in (-1, len(rows)):
    with pytest.raises(IndexError, match=f"row {i} of {len(want)}"):
      rows.locate(i)
