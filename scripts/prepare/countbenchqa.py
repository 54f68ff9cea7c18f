"""CountBenchQA: how many are there, from two to ten? Photos of the web.

From the dataset nielsr/countbench on the Hugging Face hub
train-00000-of-00001-cf54c241ba947306.parquet; from
github.com/google-research/big_vision countbench_paired_questions.json, in
big_vision/datasets/countbenchqa/data. One split, huggingface: of 540 questions
490, for 49 have no image there and one is gray, which big_vision leaves out.
"""

import io

from PIL import Image

from scripts.prepare import release

IMAGES = "train-00000-of-00001-cf54c241ba947306.parquet"
QUESTIONS = "countbench_paired_questions.json"
COLUMNS = ("image", "text", "image_url", "number")
FILES = {
  IMAGES: "the dataset nielsr/countbench on the Hugging Face hub",
  QUESTIONS: "big_vision/datasets/countbenchqa/data of"
  " github.com/google-research/big_vision",
}


def _rows(raw, _):
  import pyarrow.parquet as pq

  questions = raw.json(QUESTIONS, want=("question",))
  table = pq.read_table(raw.path(IMAGES))
  gone = set(COLUMNS) - set(table.column_names)
  if gone or len(table) != len(questions):
    raise ValueError(
      f"{IMAGES} has {len(table)} rows and lacks {sorted(gone) or 'no'}"
      f" columns; wanted {', '.join(COLUMNS)} for each of the"
      f" {len(questions)} questions of {QUESTIONS}"
    )
  for i, (q, row) in enumerate(zip(questions, table.to_pylist())):
    if row["image"] is None or _is_gray(row["image"]["bytes"]):
      continue
    yield {
      "image": row["image"]["bytes"],
      "image_id": i,
      "question_id": i,
      **release.pick(row, "image_url", "text"),
      "question": q["question"],
      "number": int(row["number"]),
    }


def _is_gray(data):
  return len(Image.open(io.BytesIO(data)).getbands()) == 1


splits = release.table(_rows, dict(huggingface=490), "questions", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
