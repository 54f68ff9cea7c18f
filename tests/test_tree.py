"""Flat names, first-match rules, differences that can be read."""

import types

import pytest

from pg import tree

TREE = {"b": {"x": 1, "a": {"y": 2}}, "a": 3}


def shape(*dims):
  return types.SimpleNamespace(shape=dims)


def test_flat_names_are_sorted_paths():
  assert list(tree.flatten(TREE).items()) == [
    ("a", 3),
    ("b/a/y", 2),
    ("b/x", 1),
  ]


def test_unflatten_is_the_inverse_of_flatten():
  assert tree.unflatten(tree.flatten(TREE)) == TREE


def test_a_function_sees_the_name_and_the_leaf():
  named = tree.map_named(lambda name, leaf: f"{name}={leaf}", TREE)
  assert named == {"b": {"x": "b/x=1", "a": {"y": "b/a/y=2"}}, "a": "a=3"}


def test_the_first_rule_that_matches_the_whole_name_wins():
  rules = (("b", 0), ("b/x", 1), ("b/.*", 2), (".*", 3))
  assert [tree.match(rules, k) for k in ("b/x", "b/a/y", "ab/x")] == [1, 2, 3]


def test_a_name_without_a_rule_is_an_error_that_shows_the_rules():
  with pytest.raises(ValueError, match=r"parameter 'a'; rules: \['b', 'c'\]"):
    tree.match((("b", 0), ("c", 1)), "a")


def test_a_rule_that_is_no_regex_is_an_error():
  with pytest.raises(
    ValueError, match="rule '\\*' is not a regular expression"
  ):
    tree.match((("*", 0),), "a")


def test_a_rule_that_is_nobodys_first_match_is_unused():
  rules = ((".*/x", 0), ("b/.*", 1), ("b/x", 2), ("c", 3))
  assert tree.unused(rules, tree.flatten(TREE)) == ["b/x", "c"]


def test_equal_trees_have_no_difference():
  assert tree.diff({"a": shape(2, 3)}, {"a": shape(2, 3)}) == ""


def test_a_difference_has_a_line_per_leaf():
  want = {"same": shape(1), "gone": {"w": shape(2)}, "other": shape(3, 4)}
  have = {"same": shape(1), "new": shape(5), "other": shape(4, 3)}
  assert tree.diff(want, have).splitlines() == [
    "- missing gone/w (2,)",
    "+ unexpected new (5,)",
    "! other: wanted (3, 4), found (4, 3)",
  ]


def test_a_list_of_differences_is_short_whatever_the_model():
  want = {f"{i:03}": shape(1) for i in range(300)}
  have = {f"{i:03}": shape(2) for i in range(200, 500)}
  lines = tree.diff(want, have).splitlines()
  assert len(lines) == 18
  assert lines[0] == "- missing 000 (1,)"
  assert lines[5] == "... and 195 more"
  assert lines[11] == "... and 195 more"
  assert lines[12] == "! 200: wanted (1,), found (2,)"
