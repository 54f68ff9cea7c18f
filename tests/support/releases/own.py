"""What people have of their own: JSON lines with captions."""

import json

from tests.support.releases import pictures


def small_gpu(raw):
  """Writes three examples to train on and two to look at."""
  for split, num in (("train", 3), ("val", 2)):
    with open(raw / f"{split}.jsonl", "w", encoding="utf-8") as f:
      for i in range(num):
        name = f"images/{split}{i}.jpg"
        pictures.write(raw / name, (40 + i, 30), 10 * len(split) + i)
        row = dict(image=name, suffix=f"A Red Kite, number {i}, of {split}.")
        f.write(json.dumps(row) + "\n")


ROWS = dict(small_gpu=small_gpu)
PREPARES = dict(small_gpu=[])
ARGS = dict(small_gpu="train={raw}/train.jsonl,val={raw}/val.jsonl")
