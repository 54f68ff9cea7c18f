"""Where a result comes from: the command that runs, and the commit of pg."""

import pathlib
import shlex
import subprocess
import sys

from pg import progress


def command():
  """Returns the command that runs, "" if it is none of `python -m`."""
  spec = getattr(sys.modules["__main__"], "__spec__", None)
  if spec is None:
    return ""
  name = spec.name.removesuffix(".__main__")
  return progress.safe(shlex.join(["python", "-m", name, *sys.argv[1:]]))


def commit():
  """Returns the commit of this code, "" if it is no clone.

  It ends in "-dirty" where files have changed since.
  """
  root = pathlib.Path(__file__).parents[1]
  if not (root / ".git").exists():
    return ""
  words = ["git", "-C", root, "describe", "--always", "--dirty", "--abbrev=12"]
  try:
    said = subprocess.run(
      words, capture_output=True, text=True, timeout=10, check=True
    )
  except (OSError, subprocess.SubprocessError):
    return ""
  return said.stdout.strip()
