"""Sentences that are true or false of photos: NLVR2, MaRVL, VSR."""

from tests.support.releases import photos, pictures


def nlvr2(raw):
  """Writes sentences, each with two pairs of photos."""
  for number, file in enumerate(("train", "dev", "test1")):
    rows = []
    for i in range(4):
      stem, seed = f"{file}-{number}-{i % 2}", 10 * number + i % 2
      folder = raw / "images" / file / ("7" if file == "train" else "")
      for k in (0, 1):
        path = folder / f"{stem}-img{k}.png"
        pictures.write(path, (40 + k, 32), 2 * seed + k)
      row = dict(
        validation={"61": "True"},
        sentence=f"Both pictures show {i // 2} kites over field {number}.",
        left_url="https://photos.example/1.png",
        writer="12",
        label=("True", "False")[i % 2],
        right_url="https://photos.example/2.png",
        synset="kite",
        query="two kites3",
        identifier=f"{stem}-{i // 2}",
        extra_validations={"5": "True"},
      )
      rows.append(row | dict(directory=7) if file == "train" else row)
    photos.write_lines(raw / f"{file}.json", rows)


def marvl(raw):
  """Writes two sentences in each of five languages."""
  asked = dict(
    id="Ada {} layang.",
    sw="Kuna tiara {}.",
    ta="{} பட்டங்கள் உள்ளன.",
    tr="{} uçurtma var.",
    zh="有{}只风筝。",
  )
  for language, text in asked.items():
    folder = raw / f"marvl-images/{language}/images/7-Layang"
    rows = []
    for i in range(2):
      names = [f"7-{i}{k}.jpg" for k in (1, 2)]
      for k, name in enumerate(names):
        pictures.write(folder / name, (40, 32 + k), 2 * i + k)
      annotator = dict(
        annotator_id=f"{language}_09",
        country_of_birth="X",
        country_of_residence="X",
        gender="x",
        age=40,
      )
      rows.append(
        dict(
          concept="7-Layang",
          language=language,
          caption=text.format(i + 2),
          left_img=names[0],
          right_img=names[1],
          annotator_info=annotator,
          chapter="Sports",
          id=f"{language}-{i}",
          label=i == 0,
        )
      )
    path = raw / f"marvl-annotations/marvl-{language}.jsonl"
    path.parent.mkdir(exist_ok=True)
    photos.write_lines(path, rows)


def vsr(raw):
  """Writes sentences about photos of two sets, split in two ways."""
  number = 0
  for kind in ("random", "zeroshot"):
    (raw / kind).mkdir()
    for split in ("train", "dev", "test"):
      rows = []
      for i in range(4):
        number += 1
        year = ("train2017", "val2017")[i % 2]
        name = f"{photos.photo(raw, year, number):012d}.jpg"
        row = dict(
          image=name,
          image_link=f"https://photos.example/{year}/{name}",
          caption=f"The kite is above person {number}.",
          label=(number + i // 2) % 2,
          relation="above",
          annotator_id=4,
          vote_true_validator_id="[2, 6]",
          vote_false_validator_id="[]",
        )
        more = dict(reference_frame=None)
        if kind == "zeroshot":
          more = dict(subj="kite", obj="person")
        rows.append(row | more)
      photos.write_lines(raw / kind / f"{split}.jsonl", rows)


ROWS = dict(nlvr2=nlvr2, marvl=marvl, vsr=vsr)
PREPARES = dict(nlvr2=["nlvr2", "marvl"])
