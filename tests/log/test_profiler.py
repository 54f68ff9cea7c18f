"""A trace is where TensorBoard's profiler looks for it."""

import jax
import jax.numpy as jnp
import pytest

from pg.log import profiler


def trace(folder, span, first=0, total=6):
  """Takes steps from one on; returns after which of them there was a trace."""
  files = lambda: [
    str(path.relative_to(folder)) for path in folder.rglob("*.xplane.pb")
  ]
  seen = []
  found = profiler.Profiler(span, str(folder), total)
  found.step(first, ())
  for step in range(first + 1, total + 1):
    found.step(step, jnp.ones(8) * step)
    seen += [step] * bool(files())
  found.close()
  return files(), seen


def test_a_trace_is_where_tensorboard_looks(tmp_path):
  (file,), seen = trace(tmp_path, "2:4")
  assert file.startswith("plugins/profile/") and file.count("/") == 3
  assert seen == [4, 5, 6]


def test_a_run_that_ends_within_the_steps_has_its_trace(tmp_path):
  found = profiler.Profiler("0:5", str(tmp_path), 6)
  found.step(0, ())
  found.step(1, jax.numpy.ones(2))
  found.close()
  found.close()
  assert len(list(tmp_path.rglob("*.xplane.pb"))) == 1


@pytest.mark.parametrize("span, first", [("", 0), ("2:4", 3)])
def test_steps_that_are_not_taken_are_not_traced(tmp_path, span, first):
  assert trace(tmp_path, span, first) == ([], [])


@pytest.mark.parametrize("span", ["5", "a:b", "4:4", "2:7", "-1:3"])
def test_steps_that_are_no_span_of_the_run_are_refused(tmp_path, span):
  with pytest.raises(ValueError, match=f"--profile {span}: wanted .* of the 6"):
    profiler.Profiler(span, str(tmp_path), 6)
