"""One letter, one meaning: shapes in pg are in the letters of its glossary."""

import re

import pytest

from pg import models
from tests.support import paths

LETTERS = set(re.findall(r"\b([A-Z])  \w", models.__doc__))
EINSUM = re.compile(r"\"([A-Za-z.]+,[A-Za-z.]+->[A-Za-z.]+)\"")
SHAPE = re.compile(r"\b(?:[fiu]\d+|bool|float|np )\[([^]\"']*)\]|# \[([^]]*)\]")
FILES = sorted((paths.ROOT / "pg").rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.name))
def test_shapes_are_in_the_letters_of_the_glossary(file):
  text = file.read_text("utf-8")
  shapes = [a or b for a, b in SHAPE.findall(text)]
  found = {x for shape in shapes for x in re.findall(r"\b[A-Z]\b", shape)}
  found |= set(re.findall("[A-Z]", "".join(EINSUM.findall(text))))
  assert found <= LETTERS, f"write a word, or add to pg/models: {found}"


def test_the_glossary_is_found():
  assert len(LETTERS) == 15 and {"B", "M", "V"} <= LETTERS
