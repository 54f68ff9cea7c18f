"""MSVD-QA: questions that were made from the captions of 1,970 short clips.

  python -m scripts.prepare.msvd_qa --raw DIR --out data/msvd_qa

From github.com/xudejing/video-question-answering, unpacked into DIR:
train_qa.json, val_qa.json, test_qa.json and youtube_mapping.txt; from the MSVD
page of UT Austin YouTubeClips.tar. Splits: train, val, test. Of these PaliGemma
had 24,670, 5,107 and 10,136 questions. --verify leaves out broken clips.
"""

from scripts.prepare import clips, release

SITE = "from github.com/xudejing/video-question-answering"
MAPPING = "youtube_mapping.txt"  # "abcdefghijk_10_20 vid1" on a line
CLIPS = "YouTubeClips.tar from the MSVD page of UT Austin"
SIZES = dict(train=30933, val=6415, test=13157)


def splits(raw, verify=False):
  """Yields the splits of the release."""
  names = [*(f"{split}_qa.json" for split in SIZES), MAPPING]
  raw.need({name: f"MSVD-QA {SITE}" for name in names})
  yield from clips.splits(raw, _rows, SIZES, "questions", verify)


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


if __name__ == "__main__":
  release.main(splits, __doc__, verify=clips.VERIFY)
