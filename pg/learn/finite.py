"""Steps whose numbers are not finite."""

import jax
import numpy as np


def check(step, measured, manager):
  """Raises FloatingPointError when a measurement of a step is not finite.

  The loss is that of the parameters before the step; the norm of the update
  tells whether those after it may be kept.

  Args:
    step: int.
    measured: {name: f32[]}, of `train.update`.
    manager: checkpoint.Manager of the run; it is closed before the error.
  """
  told = {k: v for k, v in measured.items() if k.count("/") == 1}  # of all
  for name, value in jax.device_get(told).items():
    if not np.isfinite(value):
      manager.close()
      raise FloatingPointError(
        f"{name} is {value} at step {step}; the last good checkpoint is of step"
        f" {manager.latest()}. Try a smaller lr or a longer warmup"
      )
