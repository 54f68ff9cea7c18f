"""Clips of video benchmarks: each has an id, and many are gone.

Annotations name videos of YouTube, and everybody has those that were there on
the day of the download. Rows of others are left out and counted. A clip may lie
in any folder of the release as <id>.mp4, or with another of ENDS.

ArrayRecord would hold a clip once for each question: take JSON lines for those.
"""

import functools
import sys

from pg.pp import clip
from scripts.prepare import release

ENDS = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".flv")
VERIFY = "open every clip, and leave out those that do not decode"
BROKEN = "whole copies of those that are there, but do not decode"


def splits(raw, rows, sizes, unit, files, verify=False):
  """Yields splits of clips, see release.splits.

  With `verify` those that do not decode are left out.
  """
  rows = functools.partial(_decoded, rows) if verify else rows
  return release.splits(raw, rows, sizes, unit, files, partial=True)


def find(raw, names, archive):
  """Returns the path of a clip, there or not.

  Args:
    raw: release.Raw.
    names: str, or a list of them: what its file may be called, without the end.
    archive: str, what the clips come from.
  """
  names = [names] if isinstance(names, str) else names
  patterns = [name + end for name in names for end in ENDS]
  return raw.video(names[0], patterns, archive)


def _decoded(rows, raw, split, *more):
  """Yields rows; clips that do not decode become absent ones."""
  for row in rows(raw, split, *more):
    path = row["video"]
    if path not in raw.absent and (problem := _problem(path)):
      print(problem, file=sys.stderr)
      raw.absent.add(path)
      raw.num_absent[BROKEN] += 1
    yield row


@functools.cache
def _problem(path):
  """Returns what is wrong with a clip, None if it decodes to its end."""
  try:
    film = clip.Clip(path)
    film.read([0, len(film) // 2, len(film) - 1])
  except ValueError as e:
    return str(e)


def questions(raw, name, file, archive):
  """Yields rows of MSRVTT-QA and MSVD-QA.

  Args:
    raw: release.Raw.
    name: str, the file of questions.
    file: function from the number of a video to the name of its clip.
    archive: str, what the clips come from.
  """
  for q in raw.json(name, want=("id", "video_id", "question", "answer")):
    yield {
      "video": find(raw, file(q["video_id"]), archive),
      "video_id": q["video_id"],
      "question_id": q["id"],
      **release.pick(q, "question", "answer"),
    }
