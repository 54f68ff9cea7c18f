"""The key-value store that the processes of a job share; it needs no device.

JAX's coordination service has it, in process 0; see job.py.
"""

import jax
from jax._src import distributed  # nothing public has it

from pg import stop

FOREVER, PATIENCE = 1 << 31, 500  # milliseconds


def client():
  """Returns JAX's client of the store; None where one process is alone."""
  return distributed.global_state.client


def put(key, text):
  """Tells all processes; a key is set once.

  Raises:
    RuntimeError: it is set already, or the job is over.
  """
  client().key_value_set(f"pg/{key}", text)


def get(key):
  """Waits for what a process tells.

  Raises:
    RuntimeError: the job is over.
  """
  return client().blocking_key_value_get(f"pg/{key}", FOREVER)


def largest(value, name, number):
  """Returns the largest of the values that the processes have.

  All of them ask under the same name, with numbers that go up one by one.

  Args:
    value: int.
    name: str.
    number: int.

  Raises:
    RuntimeError: the job is over, or this process interrupted.
  """
  count, process = jax.process_count(), jax.process_index()
  if count == 1:
    return value
  key = f"{name}/{number}"
  put(f"{key}/{process}", str(value))
  if process == 0:
    values = [int(_get_unless_interrupted(f"{key}/{i}")) for i in range(count)]
    put(f"{key}/all", str(max(values)))
    # Who asks for this number has got the answer to the one before.
    client().key_value_delete(f"pg/{name}/{number - 1}/")
  return int(_get_unless_interrupted(f"{key}/all"))


def _get_unless_interrupted(key):
  while True:
    try:
      return client().blocking_key_value_get(f"pg/{key}", PATIENCE)
    except RuntimeError as error:
      if "DEADLINE_EXCEEDED" not in str(error) or stop.interrupted():
        raise
