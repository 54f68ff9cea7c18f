"""Chips are found by what JAX calls them."""

import pytest

from pg import chips


@pytest.mark.parametrize(
  "kind, name",
  [
    ("TPU v4", "v4"),
    ("TPU v5 lite", "v5e"),
    ("TPU v5", "v5p"),
    ("TPU v6 lite", "v6e"),
    ("NVIDIA H200", "h200"),
    ("NVIDIA H100 80GB HBM3", "h100"),
    ("NVIDIA A100-SXM4-80GB", "a100"),
    ("NVIDIA L4", "l4"),
    ("Tesla T4", "t4"),
  ],
)
def test_a_chip_is_found_by_its_kind(kind, name):
  assert chips.of_kind(kind) is chips.CHIPS[name]


@pytest.mark.parametrize(
  "kind", ["cpu", "TPU v3", "NVIDIA L40S", "NVIDIA A100-SXM4-40GB"]
)
def test_an_unknown_kind_is_none(kind):
  assert chips.of_kind(kind) is None


def test_each_names_a_source():
  for chip in chips.CHIPS.values():
    assert chip.source.startswith("https://")
    assert chip.memory < 2e11 and chip.flops > 8e12 > chip.bandwidth > chip.link
