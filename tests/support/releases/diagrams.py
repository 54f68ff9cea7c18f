"""Multiple choice of school science, with an image: AI2D, ScienceQA."""

from tests.support.releases import photos, pictures


def ai2d(raw):
  """Writes five diagrams with two questions each; two are test."""
  folder = raw / "ai2d"
  for name in ("questions", "annotations"):
    (folder / name).mkdir(parents=True)
  for n in (0, 2, 7, 10, 11):
    name = f"{n}.png"
    pictures.write(folder / "images" / name, (60, 40 + n), n)
    asked = {
      f"What is the letter of the leaf of plant {n}?": dict(
        abcLabel=True,
        answerTexts=["A", "B", "C", "D"],
        correctAnswer=1,
        questionId=f"{name}-0",
      ),
      f"Which part of plant {n} holds water?": dict(
        abcLabel=False,
        answerTexts=["root", "leaf", "Stem", "seed"],
        correctAnswer=n % 4,
        questionId=f"{name}-1",
      ),
    }
    made = dict(questions=asked, imageName=name)
    photos.write(folder / f"questions/{name}.json", made)
    text = dict(
      rectangle=[[8, 6], [38, 26]], replacementText="B", value="leaf", id="T0"
    )
    others = dict(arrows={}, blobs={}, relationships={})
    made = dict(text=dict(T0=text), **others)
    photos.write(folder / f"annotations/{name}.json", made)
  (raw / "ai2d_test_ids.csv").write_text("7\n11\n")


def science_qa(raw):
  """Writes three problems of each split, and one without an image."""
  problems, ids = {}, {}
  for number, split in enumerate(("train", "val", "test")):
    ids[split] = [str(10 * number + i + 1) for i in range(4)]
    for i, id in enumerate(ids[split]):
      problems[id] = dict(
        question=f"Which of box {id} is a solid?",
        choices=["milk", f"rock {id}", "air"][: 2 + i % 2],
        answer=1,
        hint="Solids keep their shape." if i % 2 else "",
        image="image.png" if i < 3 else None,
        task="closed choice",
        grade="grade2",
        subject="natural science",
        topic="physics",
        category="Matter",
        skill="Sort solids",
        lecture="A solid has a shape.",
        solution="A rock is a solid.",
        split=split,
      )
      if i < 3:
        path = raw / split / id / "image.png"
        pictures.write(path, (40, 32 + i), int(id))
  photos.write(raw / "problems.json", problems)
  photos.write(raw / "pid_splits.json", ids)


ROWS = dict(ai2d=ai2d, science_qa=science_qa)
