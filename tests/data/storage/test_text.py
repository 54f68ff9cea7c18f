"""Text is read as tools of Windows write it, too."""

import pytest

from pg.data.storage import text

TEXT = "cat\nDänische Dogge\n\n 猫 \n"


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
  "encoding",
  ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-32-be"],
)
def test_marks_and_line_ends_are_no_part_of_a_text(encoding, newline, tmp_path):
  path = tmp_path / "a.txt"
  path.write_bytes(TEXT.replace("\n", newline).encode(encoding))
  assert text.read(path) == TEXT
  assert text.lines(path) == ["cat", "Dänische Dogge", "猫"]


def test_what_else_ends_a_line_in_python_is_in_one(tmp_path):
  path = tmp_path / "a.txt"
  path.write_text("a\u2028b\x0cc\n", encoding="utf-8")
  assert text.lines(path) == ["a\u2028b\x0cc"]


def test_another_encoding_is_refused_with_what_to_do(tmp_path):
  path = tmp_path / "a.txt"
  path.write_bytes("Dänische Dogge".encode("cp1252"))
  with pytest.raises(ValueError, match="no text in UTF-8 .*: save it as UTF-8"):
    text.read(path)
  path.write_bytes(b"")
  assert text.lines(path) == []
