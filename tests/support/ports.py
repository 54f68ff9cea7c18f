"""Ports of this machine for jobs of several processes."""

import random
import socket

# JAX takes the port from a job's number, and SLURM's and Open MPI's have one.
DERIVED = range(1 << 16)[-(1 << 12) :]


def free():
  """Returns a port that nobody listens to."""
  with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    return s.getsockname()[1]


def free_number():
  """Returns a job's number, from which JAX derives a free port."""
  while True:
    number = random.randrange(len(DERIVED))
    with socket.socket() as s:
      if s.connect_ex(("127.0.0.1", DERIVED[number])):
        return number
