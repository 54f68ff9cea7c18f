"""Columns of text are aligned."""

from pg import table


def test_words_start_and_numbers_end_together():
  rows = [["name", "n", "what"], ["a", "10", "dog"], ["longer", "", ""]]
  assert table.lines(rows, words=(0, 2)) == [
    "name     n  what",
    "a       10  dog",
    "longer",
  ]
