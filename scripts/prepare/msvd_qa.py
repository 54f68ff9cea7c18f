"""MSVD-QA: questions that were made from the captions of 1,970 short clips.

From github.com/xudejing/video-question-answering, unpacked into DIR:
train_qa.json, val_qa.json, test_qa.json and youtube_mapping.txt; from the MSVD
page of UT Austin YouTubeClips.tar. Splits: train, val, test. Of these PaliGemma
had 24,670, 5,107 and 10,136 questions. --verify leaves out broken clips.
"""

from scripts.prepare import clips, release

SITE = "MSVD-QA from github.com/xudejing/video-question-answering"
MAPPING = "youtube_mapping.txt"  # "abcdefghijk_10_20 vid1" on a line
FILES = {"{}_qa.json": SITE, MAPPING: SITE}
CLIPS = "YouTubeClips.tar from the MSVD page of UT Austin"
SIZES = dict(train=30933, val=6415, test=13157)


def _rows(raw, split):
  files = dict(_mapping(raw))
  file = lambda n: release.match(files, n, f"vid{n} is not", MAPPING)
  return clips.questions(raw, f"{split}_qa.json", file, CLIPS)


def _mapping(raw):
  """Yields (number of a video, name of its clip)."""
  for number, line in enumerate(raw.text_lines(MAPPING), 1):
    name, _, video = line.strip().rpartition(" vid")
    if line.strip() and not (name and video.isdecimal()):
      raise ValueError(
        f'{raw.path(MAPPING)}:{number}: wanted "name vid1", got {line!r}'
      )
    if name:
      yield int(video), name


splits = release.table(_rows, SIZES, "questions", FILES, clips.splits)

if __name__ == "__main__":
  release.main(splits, __doc__, verify=clips.VERIFY)
