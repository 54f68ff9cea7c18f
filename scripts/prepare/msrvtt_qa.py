"""MSRVTT-QA: questions that were made from the captions of MSR-VTT.

  python -m scripts.prepare.msrvtt_qa --raw DIR --out data/msrvtt_qa

From github.com/xudejing/video-question-answering, unpacked into DIR:
train_qa.json, val_qa.json and test_qa.json; from the MSR-VTT challenge or a
mirror the clips video0.mp4 to video9999.mp4. Splits: train, val, test. Of these
PaliGemma had 114,080, 7,936 and 51,680 questions. --verify leaves out broken
clips.
"""

from scripts.prepare import clips, release

SITE = "from github.com/xudejing/video-question-answering"
CLIPS = "TrainValVideo.zip and TestVideo.zip from the MSR-VTT challenge"
SIZES = dict(train=158581, val=12278, test=72821)


def splits(raw, verify=False):
  """Yields the splits of the release."""
  raw.need({f"{split}_qa.json": f"MSRVTT-QA {SITE}" for split in SIZES})
  yield from clips.splits(raw, _rows, SIZES, "questions", verify)


def _rows(raw, split):
  file = "video{}".format
  return clips.questions(raw, f"{split}_qa.json", file, CLIPS)


if __name__ == "__main__":
  release.main(splits, __doc__, verify=clips.VERIFY)
