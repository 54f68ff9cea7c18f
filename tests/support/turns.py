"""Two processes of a job in one: the first runs, then the second."""

import jax
import numpy as np
from jax.experimental import multihost_utils


class Turns:
  """Replays to the second what the first has told.

  Args:
    patch: pytest.MonkeyPatch.
  """

  def __init__(self, patch):
    self.process, self._told = 0, []
    patch.setattr(jax, "process_count", lambda: 2)
    patch.setattr(jax, "process_index", lambda: self.process)
    patch.setattr(multihost_utils, "broadcast_one_to_all", self._share)

  def _share(self, x):
    if not self.process:
      self._told.append(x)
      return x
    told = self._told.pop(0)
    assert (np.shape(x), np.asarray(x).dtype) == (
      np.shape(told),
      np.asarray(told).dtype,
    )
    return told
