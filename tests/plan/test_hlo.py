"""What a program moves is read from its text: loops count, slices are small."""

import pathlib

import jax
import jax.numpy as jnp
import pytest

from pg.plan import hlo

# A loop of 18 turns, and in it one of which data say how often; a collective
# that two fusions share, as on a TPU; arrays beside the units, S(1).
TEXT = pathlib.Path(__file__).with_name("module.hlo").read_text()
MIB = 2**20


@pytest.fixture(scope="module")
def module():
  return hlo.parse(TEXT)


def test_lines_are_read_with_what_they_call(module):
  (line,) = (x for x in module["body"] if x.name == "slice-start.1")
  assert (line.opcode, line.operands) == ("slice-start", ("fusion.3",))
  assert line.type.startswith("((bf16[512,256]{1,0}), bf16[128,256]")
  assert hlo.num_bytes(line.type) == 2 * 256 * (512 + 128) + 4
  assert hlo.num_bytes(line.type, far=True) == 2 * 256 * 512
  assert [x.name for x in module[""] if x.root] == ["copy.1"]
  assert hlo.main_loop(module) == "body"


def test_a_loop_counts_as_often_as_its_condition_says(module):
  (outer,) = (x for x in module[""] if x.opcode == "while")
  (inner,) = (x for x in module["body"] if x.opcode == "while")
  assert hlo.trips(module, outer) == 18
  assert hlo.trips(module, inner) is None
  known = outer._replace(rest='"known_trip_count":{"n":"7"}')
  assert hlo.trips(module, known) == 7


@pytest.mark.parametrize("by_data", [1, 3])
def test_collectives_are_counted_by_kind_with_their_bytes(module, by_data):
  assert hlo.collectives(module, by_data) == {
    "all-gather": (1 + 18, 2 * MIB + 18 * MIB // 4),
    "reduce-scatter": (1 + 18, MIB + 18 * MIB // 4),
    "all-reduce": (18 * by_data, 18 * by_data * 256),
  }
  inner = {"all-reduce": (1, 256)}
  assert hlo.collectives(module, by_data, "inner") == inner


def test_what_is_read_is_what_is_taken_and_not_near_already(module):
  gathered, shards = 4 * 256 * 2, 2 * 64 * 256 * 2
  scattered, sliced, row = 512 * 256 * 2, 128 * 256 * 2, 256 * 4
  want = gathered + shards + scattered + sliced + row
  assert hlo.bytes_read(module, "body", 0) == want
  assert hlo.bytes_read(module, "body", 5) == want + 5 * 256
  assert hlo.bytes_read(module, "") == 4 * MIB + 18 * (want + 256)


def test_a_copy_is_one_in_a_fusion_too(module):
  assert hlo.copies(module, "") == [
    "transpose f32[1024,256]",
    "copy f32[256,1024]",
  ]
  assert hlo.copies(module, "", 2 * MIB) == []
  assert hlo.copies(module, "body") == []


def test_programs_of_this_machine_are_read():
  scan = lambda x: jax.lax.scan(lambda y, w: (y @ w, None), x[0], x)[0]
  text = jax.jit(scan).lower(jnp.ones((5, 64, 64))).compile().as_text()
  module = hlo.parse(text)
  (loop,) = (x for x in module[""] if x.opcode == "while")
  assert hlo.trips(module, loop) == 5
