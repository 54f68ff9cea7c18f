"""The page of all recipes says what their configs say."""

import pytest

from scripts import transfers_table
from tests.support import transfer_rows


def committed():
  """Returns {recipe: cells} of the page."""
  text = transfers_table.PAGE.read_text(encoding="utf-8")
  assert text.startswith(transfers_table.HEAD)
  lines = text.removeprefix(transfers_table.HEAD).splitlines()
  rows = [line.strip("|").split("|") for line in lines]
  return {row[0].strip(): [cell.strip() for cell in row] for row in rows}


def test_the_page_has_every_recipe_once():
  assert sorted(committed()) == sorted(transfer_rows.RECIPES)


@pytest.mark.parametrize("name", transfer_rows.RECIPES)
def test_the_page_says_what_the_config_says(name):
  assert transfers_table.row(name, None) == committed()[name][:-1]


def test_no_recipe_failed_its_check():
  rows = {name: cells[-1] for name, cells in committed().items()}
  failed = {name: cell for name, cell in rows.items() if "," in cell}
  assert not failed


def test_examples_are_those_of_the_official_release():
  cells = transfers_table.row("vqav2", None)
  assert cells[:3] == ["vqav2", "vqav2 + mmvp + pope", f"{443757 + 214354:,}"]
  assert "test acc .8319 (224), .8564 (448)" in cells[5].split("<br>")
