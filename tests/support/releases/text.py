"""Charts, documents, text in photos and images from above."""

import csv
import json

from tests.support.releases import pictures


def rsvqa_lr(raw):
  """Writes questions of four types about three images of a split."""
  asked = (
    ("comp", "Are there more roads than farms?", "Yes"),
    ("presence", "Is a road present?", "no"),
    ("rural_urban", "Is it a rural or an urban area?", "rural"),
    ("count", "What is the number of roads?", "17"),
  )
  for number, split in enumerate(("train", "val", "test")):
    _rsvqa(raw, f"LR_split_{split}", asked, 100 * number, "Images_LR/{}.tif")


def rsvqa_hr(raw):
  """Writes questions of four types about three images of a split."""
  asked = (
    ("comp", "Are there more roads than parks?", "yes"),
    ("presence", "Is there a large road?", "No"),
    ("area", "What is the area of small roads?", "1035m2"),
    ("count", "How many roads are there?", "3"),
  )
  for number, split in enumerate(("train", "val", "test", "test_phili")):
    _rsvqa(raw, f"USGS_split_{split}", asked, 100 * number, "Data/{}.png")


def _rsvqa(raw, stem, asked, first, image):
  """Writes every second question as one that is not active."""
  questions, answers = [], []
  for i in range(len(asked) * 3):
    id, img_id = 2 * (first + i), first + i % 3
    pictures.write(raw / image.format(img_id), (32, 32), img_id)
    kind, question, answer = asked[i % len(asked)]
    shared = dict(date_added=1570000000 + i, people_id=0)
    question = dict(
      id=id,
      **shared,
      img_id=img_id,
      type=kind,
      question=question,
      answers_ids=[id],
      active=True,
    )
    questions += [question, dict(id=id + 1, active=False)]
    answers += [
      dict(id=id, **shared, question_id=id, answer=answer, active=True),
      dict(id=id + 1, active=False),
    ]
  write(raw / f"{stem}_questions.json", dict(questions=questions))
  write(raw / f"{stem}_answers.json", dict(answers=answers))


def chartqa(raw):
  """Writes three questions a split of both kinds."""
  folder = raw / "ChartQA Dataset"
  for number, split in enumerate(("train", "val", "test")):
    for kind in ("human", "augmented"):
      rows = []
      for i in range(3):
        name = f"{kind}_{10 * number + i}.png"
        pictures.write(folder / split / "png" / name, (60, 40 + i), i)
        label = ("12.5", "Yes", "[Kites, Birds]")[i]
        query = f"What is the value of {kind} {number} in {2019 + i}?"
        rows.append(dict(imgname=name, query=query, label=label))
      write(folder / split / f"{split}_{kind}.json", rows)


def ocrvqa(raw):
  """Writes two books a split; one of test has no cover."""
  books, ends = {}, (".jpg", ".png", ".gif")
  for i in range(6):
    item, end = f"012345678{i}", ends[i % 3]
    if i < 5:
      pictures.write(raw / f"images/{item}{end}", (30, 40 + i), i)
    books[item] = dict(
      imageURL=f"https://covers.example/a{i}{end}",
      questions=["Who wrote this book?", f"Is book {i} a cookbook?"],
      answers=[f"Ann Example{i}", "No"],
      title=f"Green Kites {i}",
      authorName=f"Ann Example{i}",
      genre="Crafts",
      split=1 + i // 2,
    )
  write(raw / "dataset.json", books)


def textvqa(raw):
  """Writes four questions a split, of which two have photos on a side."""
  tables = dict(
    train_images="train-images-boxable-with-rotation.csv",
    test_images="test-images-with-rotation.csv",
  )
  turned = {folder: [] for folder in tables}
  for number, split in enumerate(("train", "val", "test")):
    folder = "test_images" if split == "test" else "train_images"
    rows = []
    for i in range(4):
      image_id = f"00ab12cd34ef56{number}{i}"
      pictures.write(raw / folder / f"{image_id}.jpg", (48, 32), 4 * number + i)
      turned[folder].append((image_id, ("0.0", "90.0", "", "270.0")[i]))
      row = dict(
        question=f"what word is on kite {number}{i}?",
        image_id=image_id,
        image_classes=["Kite"],
        flickr_original_url="https://photos.example/o.jpg",
        flickr_300k_url="https://photos.example/z.jpg",
        image_width=48,
        image_height=32,
        answers=["stop"] * 7 + ["STOP."] * 3,
        question_tokens=["what", "word", "is", "on", "kite"],
        question_id=100 * number + i,
        set_name=split,
      )
      if split == "test":
        del row["answers"]
      rows.append(row)
    made = dict(
      dataset_type=split,
      dataset_name="textvqa",
      dataset_version="0.5.1",
      data=rows,
    )
    write(raw / f"TextVQA_0.5.1_{split}.json", made)
  for folder, name in tables.items():
    with open(raw / name, "w", encoding="utf-8", newline="") as f:
      table = csv.writer(f)
      table.writerow(("ImageID", "Subset", "Rotation"))
      table.writerows((id, "train", turn) for id, turn in turned[folder])
      table.writerow(("ffffffffffffffff", "train", "180.0"))


def docvqa(raw):
  """Writes twelve questions of train, of which 5 % are one, and fewer else."""
  sizes = dict(train=12, val=3, test=3)
  for number, (split, size) in enumerate(sizes.items()):
    rows = []
    for i in range(size):
      name = f"abcd{number}{i // 3:03d}_{i % 3}"
      pictures.write(raw / split / f"documents/{name}.png", (40, 56 + i), i)
      row = dict(
        questionId=100 * number + i,
        question=f"What is the date of page {number}-{i}?",
        image=f"documents/{name}.png",
        docId=i,
        ucsf_document_id=name[:-2],
        ucsf_document_page_no=name[-1],
        answers=["1 May 1999", "May 1, 1999"],
        data_split=split,
        question_types=["form"],
      )
      if split == "test":
        del row["answers"], row["question_types"]
      rows.append(row)
    with_types = "" if split == "test" else "_withQT"
    write(
      raw / f"{split}_v1.0{with_types}.json",
      dict(_named("docvqa", split), data=rows),
    )


def infovqa(raw):
  """Writes three questions a split."""
  for number, split in enumerate(("train", "val", "test")):
    rows = []
    for i in range(3):
      name = f"2000{number}{i}.jpeg"
      pictures.write(raw / "images" / name, (30, 90 + i), 10 * number + i)
      row = dict(
        questionId=65000 + 10 * number + i,
        question=f"Which kites {number}{i} were sold?",
        image_local_name=name,
        image_url=f"https://posters.example/{name}",
        ocr_output_file=name.replace("jpeg", "json"),
        answers=["Red, Blue", "3 million"][i % 2 :],
        data_split=split,
      )
      if split == "test":
        del row["answers"]
      rows.append(row)
    with_types = "_withQT" if split == "val" else ""
    write(
      raw / f"infographicsVQA_{split}_v1.0{with_types}.json",
      dict(_named("infographicVQA", split), data=rows),
    )


def _named(name, split):
  return dict(dataset_name=name, dataset_version="1.0", dataset_split=split)


def stvqa(raw):
  """Writes twelve questions of train, some of which become val, and of test."""
  for part, folder in (
    ("train", "train_images"),
    ("test", "test_task3_images"),
  ):
    rows = []
    for i in range(12):
      source = ("coco-text", "iiit_text", "vizwiz")[i % 3]
      name = f"COCO_train2014_{127 + i:012d}.jpg"
      place = raw / "train2014" / name
      if source != "coco-text":
        name = f"img_{part}_{127 + i}.jpg"
        place = raw / folder / source / name
      pictures.write(place, (48, 32 + i), i)
      row = dict(
        question=f"What is on sign {i}?",
        image_classes=["street"],
        file_path=f"{source}/{name}",
        file_name=name,
        dataset=source,
        question_tokens=["what", "is", "on", "sign", str(i)],
        answers=["Stop", "stop sign"],
        question_id=100 * (part == "test") + i,
        set_name=part,
        image_width=48,
        image_height=32 + i,
      )
      if part == "test":
        del row["answers"]
      rows.append(row)
    named = dict(dataset_name="st-vqa", dataset_version=1.0)
    write(raw / f"{part}_task_3.json", dict(named, data=rows))


def write(path, made):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(made), encoding="utf-8")


ROWS = dict(
  rsvqa_lr=rsvqa_lr,
  rsvqa_hr=rsvqa_hr,
  chartqa=chartqa,
  ocrvqa=ocrvqa,
  textvqa=textvqa,
  docvqa=docvqa,
  infovqa=infovqa,
  stvqa=stvqa,
)
