"""Runs one of the benchmarks: python -m scripts.bench NAME [--help]"""

import ast
import importlib
import pathlib
import sys

from pg import command, config

FILES = {
  path.stem: path
  for path in sorted(pathlib.Path(__file__).parent.glob("[!_]*.py"))
}


def main(words):
  """Runs the benchmark of the first word; without one, lists them."""
  if not words or words[0] in ("-h", "--help"):
    print(__doc__)
    for name, path in FILES.items():
      doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
      print(f"  {name:8} {doc.splitlines()[0]}")
    return
  try:
    config.lookup(FILES, words[0], "benchmark")
  except ValueError as error:
    sys.exit(f"error: {error}")
  module = importlib.import_module(f"scripts.bench.{words[0]}")
  del sys.argv[1]
  flags = dict(with_config=False) | module.FLAGS
  command.run(module.main, module.__doc__, **flags)


if __name__ == "__main__":
  main(sys.argv[1:])
