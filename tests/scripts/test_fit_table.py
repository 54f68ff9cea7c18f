"""The table of what fits goes on where it was stopped."""

import pytest

from scripts import fit_table

FOUND = dict(
  parameters=2**30,
  optimizer=2**31,
  peak=4 * 2**30,
  has=2**34,
  fits=True,
  examples_per_second=36.0,
  chips=8,
  collectives={"all-gather": (3, 2**30)},
)


@pytest.fixture
def page(tmp_path, monkeypatch):
  page = tmp_path / "fit.md"
  page.write_text(f"# Fit\n\nwords\n\n{fit_table.MARK}\nan old table\n")
  monkeypatch.setattr(fit_table, "PAGE", page)
  monkeypatch.setattr(fit_table, "ROWS", tmp_path / "fit.jsonl")
  return page


def test_rows_are_planned_once_and_kept(page, monkeypatch):
  planned = []

  def plan(python, on, res, num_chips):
    if len(planned) == 2:
      raise KeyboardInterrupt
    planned.append((on, res, num_chips))
    return dict(FOUND, on=on, res=res)

  monkeypatch.setattr(fit_table, "plan", plan)
  monkeypatch.setattr("sys.argv", ["fit_table", "--on", "h200:8"])
  with pytest.raises(KeyboardInterrupt):
    fit_table.main()
  assert planned == [("h200:8", 224, 8), ("h200:8", 448, 8)]
  assert page.read_text().count("| h200:8 |") == 2
  planned[:] = [None]
  fit_table.main()
  assert planned == [None, ("h200:8", 896, 8)]
  text = page.read_text()
  assert text.startswith("# Fit\n\nwords\n\n") and "an old table" not in text
  row = "| h200:8 | 224 | 8 | 3.00 | 4.00 | 16.00 | 4.50 | all-gather 1.00 |"
  assert row in text.splitlines()


def test_an_error_keeps_no_other_row_from_being_planned(page, monkeypatch):
  def plan(python, on, res, num_chips):
    return None if res == 448 else dict(FOUND, on=on, res=res)

  monkeypatch.setattr(fit_table, "plan", plan)
  monkeypatch.setattr("sys.argv", ["fit_table", "--on", "l4:8", "t4:8"])
  with pytest.raises(SystemExit, match="l4:8 at 448 px, t4:8 at 448 px"):
    fit_table.main()
  assert fit_table.read().keys() == {
    (on, res) for on in ("l4:8", "t4:8") for res in (224, 896)
  }


def test_what_has_no_text_is_in_the_table_with_its_memory():
  key = ("v5p:4x4x4", 896)
  unread = {k: FOUND[k] for k in ("parameters", "optimizer", "peak", "has")}
  row = fit_table.table({key: unread | dict(fits=True, unread="why")})
  assert row.splitlines()[-1].endswith(" |  |  |")


def test_what_does_not_fit_is_in_the_table():
  key = ("t4:8", 224)
  refused = {k: x for k, x in FOUND.items() if k != "peak"} | {"fits": False}
  for found, peak in (
    (refused, "more"),
    ({**FOUND, "fits": False}, "does not"),
  ):
    (row,) = fit_table.table({key: found}).splitlines()[2:]
    assert peak in row.split("|")[5] and row.split("|")[7:9] == ["  ", "  "]


def test_chips_are_counted():
  names = {"v5e:16x16": 256, "v4:4x4x4": 64, "h200:8": 8}
  assert {name: fit_table.size(name) for name in names} == names
