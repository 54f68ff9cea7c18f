"""METEOR of English captions, by the program that defines it.

It is a Java program with tables of synonyms and paraphrases, inside the package
pycocoevalcap. Nothing else here needs either; both are looked for only when
METEOR is asked for.
"""

import importlib.util
import os
import shutil
import subprocess

from pg.evals import caption, ptb


def score(predictions, examples):
  """Returns {"meteor": METEOR 1.5 of all captions, in 0..1}.

  Args:
    predictions: list of str.
    examples: as for `caption.cider`.

  Raises:
    ValueError: no Java, no package, or what `caption.cider` raises.
  """
  return {"meteor": score_all(predictions, examples)[-1]}


def score_all(predictions, examples):
  """Returns METEOR of each caption and, last, of all; else as `score`."""
  predictions, references = caption.texts(predictions, examples)
  jar = _jar()
  lines = []
  groups = iter(ptb.tokenize_all(r for group in references for r in group))
  for words, group in zip(ptb.tokenize_all(predictions), references):
    parts = [" ".join(next(groups)) for _ in group]
    own = " ".join(words).replace("|||", "").replace("  ", " ")
    lines.append(" ||| ".join(["SCORE", *parts, own]))
  command = [*_JAVA, jar, "-", "-", "-stdio", "-l", "en", "-norm"]
  with subprocess.Popen(
    command,
    cwd=os.path.dirname(jar),
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    encoding="utf-8",
  ) as process:

    def ask(line):
      process.stdin.write(line + "\n")
      process.stdin.flush()
      return process.stdout.readline().strip()

    # One at a time: the program does not read on while it waits to be read.
    statistics = [ask(line) for line in lines]
    first = ask(" ||| ".join(["EVAL", *statistics]))
    rest = [process.stdout.readline() for _ in statistics]
    process.stdin.close()
  return [float(text) for text in (first, *rest)]


_JAVA = ("java", "-Xmx2G", "-Dfile.encoding=UTF-8", "-jar")


def _jar():
  spec = importlib.util.find_spec("pycocoevalcap")
  if spec is None or shutil.which("java") is None:
    missing = "Java" if spec else "the package pycocoevalcap"
    raise ValueError(
      f"METEOR needs {missing}, which is not installed: pip install -r"
      " requirements-parity.txt and install a Java runtime (such as"
      ' openjdk-17-jre-headless), or ask for "captions" instead'
    )
  (folder,) = spec.submodule_search_locations
  return os.path.join(folder, "meteor", "meteor-1.5.jar")
