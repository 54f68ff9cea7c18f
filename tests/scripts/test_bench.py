"""The entry to the benchmarks; what they measure is in docs/results.md."""

import importlib
import subprocess
import sys

import pytest

from pg.plan import hlo
from scripts import bench
from scripts.bench import __main__ as entry
from tests.support import paths


def run(*words):
  return subprocess.run(
    [sys.executable, "-m", "scripts.bench", *words],
    cwd=paths.ROOT,
    capture_output=True,
    text=True,
  )


def test_a_list_says_what_each_measures():
  lines = run().stdout.splitlines()
  assert {line.split()[0] for line in lines[1:]} == set(entry.FILES)
  assert all(line.endswith(".") for line in lines[1:])


def test_an_unknown_one_is_answered_with_the_nearest():
  done = run("line")
  assert done.returncode == 1
  assert 'unknown benchmark "line"; did you mean "lines"?' in done.stderr


@pytest.mark.parametrize("name", sorted(entry.FILES))
def test_each_says_how_it_is_called(name):
  module = importlib.import_module(f"scripts.bench.{name}")
  assert f"python -m scripts.bench {name}" in module.__doc__
  assert callable(module.main) and isinstance(module.FLAGS, dict)


def test_one_runs_with_its_flags():
  done = run("lines", "--lines", "1000")
  assert done.returncode == 0, done.stderr
  assert done.stdout.startswith("1000 lines: first ")


def test_jobs_take_turns_and_ratios_are_of_rounds(capsys):
  calls = []
  jobs = {k: lambda k=k: calls.append(k) or len(calls) for k in "ab"}
  found = bench.in_turns(jobs, 3)
  assert calls == list("ababab")
  assert found == {"a": [1, 3, 5], "b": [2, 4, 6]}
  bench.show(found, "s", digits=1)
  bench.show_ratio(found, "b", "a")
  assert capsys.readouterr().out.splitlines() == [
    "a      3.0 s (from 1.0 to 5.0)",
    "b      4.0 s (from 2.0 to 6.0)",
    "b is 1.33 x a",
  ]


MODULE = """HloModule jit_advance

%fused_computation.1 (p: bf16[8,2048,256]) -> f32[8,2048,256] {
  %p = bf16[8,2048,256]{2,1,0} parameter(0)
  %convert.1 = f32[8,2048,256]{2,1,0} convert(%p)
  ROOT %add.1 = f32[8,2048,256]{2,1,0} add(%convert.1, %convert.1)
}

%region_0.174 (state: (s32[], bf16[8,2048,256])) -> (s32[], bf16[4,64,4,256]) {
  %get-tuple-element.5 = bf16[8,2048,256]{2,1,0} get-tuple-element(%state), index=1
  %copy.7 = bf16[4,512,4,256]{3,2,1,0} copy(%get-tuple-element.3)
  %copy.8 = bf16[4,64]{1,0} copy(%get-tuple-element.4)
  %fusion.2 = f32[8,2048,256]{2,1,0} fusion(%get-tuple-element.5), calls=%fused_computation.1
}

%region_1.175 (state.1: (s32[])) -> pred[] {
  %get-tuple-element.6 = s32[] get-tuple-element(%state.1), index=0
  ROOT %lt.1 = pred[] compare(%get-tuple-element.6, %get-tuple-element.6), direction=LT
}

ENTRY %main.177 (params: bf16[8,2048,256]) -> s32[] {
  %copy.9 = bf16[8,2048,256]{2,1,0} copy(%params)
  ROOT %while.1 = (s32[]) while(%copy.9), condition=%region_1.175, body=%region_0.174
}
"""  # noqa: E501, as compilers print it


def test_copies_are_found_in_the_loop_and_nowhere_else():
  module = hlo.parse(MODULE)
  name = hlo.main_loop(module)
  assert hlo.copies(module, name) == ["copy bf16[4,512,4,256]"]
  assert hlo.copies(module, name, 2**23) == []
  assert hlo.bytes_read(module, name) == 8 * 2048 * 256 * 2
