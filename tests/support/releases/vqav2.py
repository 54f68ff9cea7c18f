"""VQAv2, POPE and MMVP: six questions a split."""

import csv
import json

from tests.support.releases import pictures

SETS = dict(train="train2014", val="val2014", test="test2015")
ASKED = ("What color is the kite?", "Is it raining?", "How many birds?")
SAID = (("red", "other"), ("yes", "yes/no"), ("2", "number"))


def vqav2(raw):
  """Writes the questions, annotations and photos of all three sets."""
  for number, (split, year) in enumerate(SETS.items()):
    questions, annotations = [], []
    for i in range(6):
      image_id = 100 * number + i // 3 + 1
      picture(raw, year, image_id)
      id = 1000 * image_id + i % 3
      questions.append(
        dict(image_id=image_id, question=ASKED[i % 3], question_id=id)
      )
      annotations.append(annotation(image_id, id, *SAID[i % 3]))
    shared = dict(info={}, license={}, data_subtype=year, data_type="mscoco")
    write(
      raw / f"v2_OpenEnded_mscoco_{year}_questions.json",
      dict(shared, task_type="Open-Ended", questions=questions),
    )
    if split != "test":
      write(
        raw / f"v2_mscoco_{year}_annotations.json",
        dict(shared, annotations=annotations),
      )


def annotation(image_id, id, answer, kind):
  said = [answer] * 7 + [f"{answer}!"] * 3
  return dict(
    question_type=kind,
    multiple_choice_answer=answer,
    answers=[
      dict(answer=text, answer_confidence="yes", answer_id=n)
      for n, text in enumerate(said, 1)
    ],
    image_id=image_id,
    answer_type=kind,
    question_id=id,
  )


def pope(raw):
  """Writes the three sets of questions, and their photos."""
  for split in ("random", "popular", "adversarial"):
    with open(raw / f"coco_pope_{split}.json", "w", encoding="utf-8") as f:
      for i in range(4):
        row = dict(
          question_id=i + 1,
          image=picture(raw, "val2014", 101 + i // 2),
          text=f"Is there a {('kite', 'dog')[i % 2]} in the image?",
          label=("yes", "no")[i % 2],
        )
        f.write(json.dumps(row) + "\n")


def mmvp(raw):
  """Writes two pairs of questions."""
  with open(raw / "Questions.csv", "w", encoding="utf-8", newline="") as f:
    rows = csv.writer(f)
    rows.writerow(("Index", "Question", "Options", "Correct Answer"))
    for i in range(1, 5):
      letter = "(a)" if i % 2 else "(b)"
      rows.writerow((i, "Is the kite open?", "(a) Open (b) Folded", letter))
      pictures.write(raw / "MMVP Images" / f"{i}.jpg", (40, 30), i)


def picture(raw, year, image_id):
  """Writes a photo, and returns its name."""
  name = f"COCO_{year}_{image_id:012d}.jpg"
  pictures.write(raw / year / name, (48, 32 + image_id % 7), image_id)
  return name


def write(path, made):
  path.write_text(json.dumps(made), encoding="utf-8")


ROWS = dict(vqav2=vqav2, pope=pope, mmvp=mmvp)
PREPARES = dict(vqav2=["vqav2", "pope", "mmvp"])
