"""Tables as text."""


def lines(rows, words=(0, 1)):
  """Returns rows of texts as lines whose columns are aligned.

  Args:
    rows: list of lists of str, all of one length.
    words: numbers of the columns that start together, as words do; the others
      end together, as numbers do.
  """
  widths = [max(map(len, column)) for column in zip(*rows)]
  return [
    "  ".join(
      cell.ljust(width) if i in words else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(row, widths))
    ).rstrip()
    for row in rows
  ]
