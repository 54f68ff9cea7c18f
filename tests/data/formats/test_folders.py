"""COCO, PASCAL VOC and YOLO folders say the same, and what is wrong in them."""

import io
import json
import pickle

import fsspec
import numpy as np
import pytest
from PIL import Image

from pg import pp
from pg.data import source
from pg.data.formats import coco, folders, voc, yolo
from pg.data.storage import index
from pg.evals import metrics
from pg.pp import parse
from tests.support import coco_free, web

NAMES = ("dog", "traffic light", "日本")
WIDTH, HEIGHT = 64, 32


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("PG_CACHE", str(tmp_path / "cache"))
  return tmp_path / "cache"


def jpeg(shade=0, size=(WIDTH, HEIGHT)):
  sink = io.BytesIO()
  Image.new("RGB", size, (shade, 0, 0)).save(sink, "JPEG")
  return sink.getvalue()


def put(path, content):
  path.parent.mkdir(parents=True, exist_ok=True)
  content = content if isinstance(content, bytes) else content.encode()
  path.write_bytes(content)
  return str(path)


def scenes():
  """Four images with up to five boxes (x1, y1, x2, y2 in pixels) and labels."""
  rng = np.random.default_rng(0)
  for n in range(4):
    objects = []
    for _ in range((0, 1, 2, 5)[n]):
      x1, x2 = sorted(rng.integers(0, WIDTH, 2, endpoint=True).tolist())
      y1, y2 = sorted(rng.integers(0, HEIGHT, 2, endpoint=True).tolist())
      objects.append(((x1, y1, x2, y2), NAMES[rng.integers(len(NAMES))]))
    yield f"{n:06d}", objects


def write_coco(root, **changes):
  images, annotations = [], []
  for n, (stem, objects) in enumerate(scenes()):
    put(root / f"{stem}.jpg", jpeg(n))
    size = dict(width=WIDTH, height=HEIGHT)
    images.append(dict(id=n + 10, file_name=f"{stem}.jpg", **size))
    for (x1, y1, x2, y2), label in objects:
      box = dict(bbox=[x1, y1, x2 - x1, y2 - y1])
      ids = dict(image_id=n + 10, id=len(annotations))
      annotations.append(dict(category_id=NAMES.index(label) + 3, **box, **ids))
  categories = [dict(id=n + 3, name=name) for n, name in enumerate(NAMES)]
  data = dict(images=images, annotations=annotations, categories=categories)
  return put(root / "instances.json", json.dumps({**data, **changes}))


def xml(objects, width=WIDTH, height=HEIGHT, more=""):
  text = "".join(
    f"<object><name>{label}</name><bndbox><xmin>{x1 + 1}</xmin>"
    f"<ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>"
    f"{more}</object>"
    for (x1, y1, x2, y2), label in objects
  )
  size = f"<size><width>{width}</width><height>{height}</height></size>"
  return f"<annotation>{size}{text}</annotation>"


def write_voc(root):
  for n, (stem, objects) in enumerate(scenes()):
    put(root / f"JPEGImages/{stem}.jpg", jpeg(n))
    put(root / f"Annotations/{stem}.xml", xml(objects))
  stems = [stem for stem, _ in scenes()]
  put(root / "ImageSets/Main/train.txt", "\n".join(stems) + "\n")
  put(root / "ImageSets/Main/val.txt", f"{stems[2]}\n\n{stems[1]}")
  put(root / "ImageSets/Main/dog_val.txt", f"{stems[1]} -1\n{stems[2]}  1\n")
  return str(root)


def write_yolo(root, yaml="names: [dog, traffic light, 日本]\ntrain: images\n"):
  for n, (stem, objects) in enumerate(scenes()):
    put(root / f"images/{stem}.jpg", jpeg(n))
    lines = [
      f"{NAMES.index(label)} {(x1 + x2) / 2 / WIDTH} {(y1 + y2) / 2 / HEIGHT}"
      f" {(x2 - x1) / WIDTH} {(y2 - y1) / HEIGHT}\n"
      for (x1, y1, x2, y2), label in objects
    ]
    if lines:
      put(root / f"labels/{stem}.txt", "\n".join(lines))
  put(root / "data.yaml", yaml)
  return str(root)


def test_one_dataset_is_the_same_in_all_three_formats(tmp_path):
  sources = {
    "coco": coco.Coco(write_coco(tmp_path / "coco")),
    "voc": voc.Voc(write_voc(tmp_path / "voc"), split="train"),
    "yolo": yolo.Yolo(write_yolo(tmp_path / "yolo")),
  }
  scale = np.array([HEIGHT, WIDTH, HEIGHT, WIDTH])
  for found in sources.values():
    assert len(found) == 4
    found.check(None)
    for n, (stem, objects) in enumerate(scenes()):
      row = found[n]
      assert row["image"] == jpeg(n)
      assert (row["height"], row["width"]) == (HEIGHT, WIDTH)
      assert row["labels"] == [label for _, label in objects]
      wanted = [[y1, x1, y2, x2] for (x1, y1, x2, y2), _ in objects]
      np.testing.assert_allclose(
        np.reshape(row["boxes"], (-1, 4)) * scale,
        np.reshape(wanted, (-1, 4)),
        atol=1e-9,
      )
      assert stem in found.where(n)
  ids = [[found[n]["image_id"] for n in (0, 3)] for found in sources.values()]
  assert ids[0] == [10, 13]
  assert ids[1] == ["000000", "000003"]
  assert ids[2] == ["images/000000", "images/000003"]


@pytest.mark.parametrize("small", [0, 1 << 20])
def test_folders_can_be_pickled_and_read_again(small, tmp_path, monkeypatch):
  monkeypatch.setattr(index, "SMALL", small)
  for name, write in dict(coco=write_coco, yolo=write_yolo).items():
    found = source.SOURCES[name](write(tmp_path / name))
    again = pickle.loads(pickle.dumps(found))
    third = source.SOURCES[name](write(tmp_path / name))
    for n in range(4):
      assert again[n] == found[n] == third[n]


ENCODINGS = ["utf-8-sig", "utf-16"]  # Notepad's, and PowerShell's `>`


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_text_files_of_windows_say_the_same(encoding, tmp_path):
  for name, write in dict(
    coco=write_coco, voc=write_voc, yolo=write_yolo
  ).items():
    path = write(tmp_path / name)
    more = dict(split="train") if name == "voc" else {}
    want = rows(source.SOURCES[name](path, **more))
    for file in (tmp_path / name).rglob("*.*"):
      if file.suffix in (".txt", ".xml", ".json", ".yaml"):
        written = file.read_text(encoding="utf-8").replace("\n", "\r\n")
        file.write_bytes(written.encode(encoding))
    found = source.SOURCES[name](path, **more)
    found.check(None)
    assert rows(found) == want
  root = tmp_path / "yolo"
  (root / "data.yaml").unlink()
  put(root / "classes.txt", "\r\n".join(NAMES).encode(encoding))
  assert rows(yolo.Yolo(root)) == want
  put(root / "data.yaml", "names: [dog, traffic light, 日本]\ntrain: a.txt\n")
  stems = [stem for stem, _ in scenes()]
  listed = "".join(f"images/{stem}.jpg\r\n" for stem in stems)
  put(root / "a.txt", listed.encode(encoding))
  assert rows(yolo.Yolo(root)) == want


@pytest.mark.parametrize(
  ("said", "encoding"),
  [("utf-16", "utf-8"), ("utf-8", "utf-16"), ("iso-8859-1", "latin-1")],
)
def test_xml_is_read_whatever_it_says_of_itself(said, encoding, tmp_path):
  text = xml([((0, 0, 8, 8), "Köter")])
  text = f'<?xml version="1.0" encoding="{said}"?>{text}'
  put(tmp_path / "a.xml", text.encode(encoding))
  put(tmp_path / "a.jpg", jpeg())
  assert voc.Voc(tmp_path)[0]["labels"] == ["Köter"]


WRITTEN = [
  lambda name: "C:\\Users\\me\\" + name.replace("/", "\\") + ".jpg",
  "/home/somebody/{}.JPG".format,
  " {}.JPG ".format,
]


@pytest.mark.parametrize("written", WRITTEN)
def test_names_of_images_are_found_as_tools_write_them(written, tmp_path):
  paths = {
    "coco": write_coco(tmp_path / "coco"),
    "yolo": write_yolo(tmp_path / "yolo"),
  }
  keys = ("image", "boxes", "labels", "image_id")

  def content(name):
    found = source.SOURCES[name](paths[name])
    found.check(None)
    return [[row[key] for key in keys] for row in rows(found)]

  want = {name: content(name) for name in paths}
  data = json.loads((tmp_path / "coco/instances.json").read_text())
  for image in data["images"]:
    image["file_name"] = written(image["file_name"].removesuffix(".jpg"))
  put(tmp_path / "coco/instances.json", json.dumps(data))
  listed = [f"{written(f'images/{stem}')}\n" for stem, _ in scenes()]
  put(tmp_path / "yolo/list.txt", "".join(listed))
  yaml = tmp_path / "yolo/data.yaml"
  train = "train: D:\\birds\\list.txt\npath: D:\\birds\n"
  put(yaml, yaml.read_text().replace("train: images\n", train))
  assert {name: content(name) for name in paths} == want


def test_voc_images_are_found_by_their_filename_as_tools_write_it(tmp_path):
  for name in ("C:\\me\\b.JPG", " B.jpg\n", "jpegimages/b.jpg"):
    said = f"<filename>{name}</filename><size>"
    put(tmp_path / "Annotations/a.xml", xml([]).replace("<size>", said))
    put(tmp_path / "JPEGImages/b.jpg", jpeg(7))
    (row,) = rows(voc.Voc(tmp_path))
    assert (row["image"], row["image_id"]) == (jpeg(7), "a")


def test_hidden_files_beside_others_are_none_of_them(tmp_path):
  voc_root, yolo_root = write_voc(tmp_path / "voc"), write_yolo(tmp_path / "y")
  for path in [*tmp_path.rglob("*.*")]:
    put(path.with_name(f"._{path.name}"), b"\0\5\x16\7")  # of macOS
  put(tmp_path / "y/images/.ipynb_checkpoints/000000.jpg", jpeg())
  found = yolo.Yolo(yolo_root)
  found.check(None)
  assert len(found) == 4
  (tmp_path / "y/data.yaml").unlink()
  put(tmp_path / "y/classes.txt", "\n".join(NAMES))
  assert len(yolo.Yolo(yolo_root)) == 4
  with pytest.raises(ValueError, match="split; there are dog_val, train, val"):
    voc.Voc(voc_root)
  for path in (tmp_path / "voc/ImageSets/Main").iterdir():
    path.unlink()
  (tmp_path / "voc/ImageSets/Main").rmdir()
  assert len(voc.Voc(voc_root)) == 4


def test_files_of_labels_may_be_written_in_another_case(tmp_path):
  put(tmp_path / "classes.txt", "dog")
  put(tmp_path / "images/IMG_1.JPG", jpeg())
  put(tmp_path / "labels/img_1.TXT", "0 0.5 0.5 1 1")
  put(tmp_path / "labels/IMG_2.txt", "0 0.5 0.5 1 1")
  assert yolo.Yolo(tmp_path)[0]["labels"] == ["dog"]
  put(tmp_path / "Annotations/A 1.XML", xml([((0, 0, 8, 8), "cat")]))
  put(tmp_path / "JPEGImages/a 1.JPG", jpeg())
  assert voc.Voc(tmp_path)[0]["labels"] == ["cat"]


def test_voc_lists_have_names_with_spaces_and_those_of_folders(tmp_path):
  for name in ("a 1", "b 1", "sub/c"):
    put(tmp_path / f"Annotations/{name}.xml", xml([]))
    put(tmp_path / f"JPEGImages/{name}.jpg", jpeg())
  ids = lambda split: [
    row["image_id"] for row in rows(voc.Voc(tmp_path, split))
  ]
  assert ids("all") == ["a 1", "b 1", "sub/c"]
  put(tmp_path / "ImageSets/Main/train.txt", "a 1\nb 1\n")
  put(tmp_path / "ImageSets/Main/val.txt", "sub/c\nC:\\VOC\\Annotations\\B 1\n")
  put(tmp_path / "ImageSets/Main/dog_train.txt", "a 1  1\nb 1 -1\n")
  assert ids("train") == ["a 1", "b 1"]
  assert ids("val") == ["sub/c", "b 1"]
  assert ids("dog_train") == ["a 1"]


def test_rows_are_what_the_ops_of_objects_take(tmp_path):
  steps = parse.build("decode | objects(order='area', crowd=False)")
  done = steps(coco.Coco(write_coco(tmp_path))[3], pp.Turn(row=3))
  assert len(done["boxes"]) == len(done["area"]) == 5


# COCO.


def test_coco_has_crowds_areas_segmentations_and_captions(tmp_path):
  more = dict(iscrowd=1, area=7.5, segmentation={"counts": [1], "size": [3, 3]})
  a = dict(id=1, image_id=11, category_id=4, bbox=[0, 0, 2, 2], **more)
  b = dict(id=2, image_id=11, category_id=3, bbox=[1, 1, 3.5, 4])
  path = write_coco(tmp_path, annotations=[a, b])
  texts = [dict(id=1, image_id=11, caption="A dog. \n")]
  captions = put(tmp_path / "c.json", json.dumps({"annotations": texts}))
  row = coco.Coco(path, captions=captions)[1]
  assert row["iscrowd"] == [1, 0]
  assert row["area"] == [7.5, None]
  assert row["segmentation"] == [{"counts": [1], "size": [3, 3]}, []]
  assert row["captions"] == ["A dog."]
  assert row["file_name"] == "000001.jpg"
  assert coco.Coco(path, captions=captions)[0]["captions"] == []
  assert "captions" not in coco.Coco(path)[1]


def test_fields_of_coco_that_tools_leave_empty_are_read_and_scored(tmp_path):
  whole = dict(image_id=11, category_id=4, bbox=[0, 0, WIDTH, HEIGHT])
  given = dict(iscrowd=0, area=WIDTH * HEIGHT, segmentation=[])
  nulls = dict.fromkeys(given)
  path = write_coco(
    tmp_path,
    annotations=[
      dict(id=n, **whole, **more) for n, more in enumerate([{}, nulls, given])
    ],
  )
  found = coco.Coco(path)
  row = found[1]
  assert row["iscrowd"] == [0, 0, 0]
  assert row["area"] == [None, None, WIDTH * HEIGHT]
  assert row["segmentation"] == [[], [], []]
  steps = parse.build("decode | objects(crowd=False)")
  assert len(steps(row, pp.Turn())["boxes"]) == 3
  text = "<loc0000><loc0000><loc1023><loc1023> traffic light"
  scores = metrics.score("coco_bbox", [text], [row])
  assert scores["APm"] == scores["AP"] > 0  # 2,048 pixels each
  keys = row.keys() - {"iscrowd", "area", "segmentation"}
  assert scores == metrics.score(
    "coco_bbox", [text], [{k: row[k] for k in keys}]
  )


def test_coco_splits_are_a_mapping_and_can_be_cut(tmp_path):
  path = write_coco(tmp_path / "a")
  paths = {"train": path, "val": write_coco(tmp_path / "b")}
  roots = {"train": tmp_path / "a", "val": tmp_path / "a"}
  found = coco.Coco(paths, roots, split="train[:25%]+val[3:]")
  assert [found[n]["image_id"] for n in (0, 1)] == [10, 13]
  assert found.where(1) == f"{paths['val']} image 13 (000003.jpg)"
  assert len(coco.Coco(path, split="all[1:]")) == 3
  with pytest.raises(ValueError, match="give a split; there are train, val"):
    coco.Coco(paths)


LAYOUTS_OF_COCO = [
  ("annotations/instances_train2017.json", "train2017"),  # COCO's own
  ("annotations/instances_train2017.json", "images/train2017"),
  ("annotations/instances_val.json", "images"),
  ("instances_val.json", "val"),
  ("train.json", "images"),
  ("annotations/train.json", "."),
  ("train/_annotations.coco.json", "train"),  # Roboflow
]


@pytest.mark.parametrize(("file", "images"), LAYOUTS_OF_COCO)
def test_images_of_a_coco_layout_need_no_root(file, images, tmp_path):
  path = tmp_path / file
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes((tmp_path / write_coco(tmp_path / "made")).read_bytes())
  for n in range(1, 4):  # the first is missing
    put(tmp_path / images / f"{n:06d}.jpg", jpeg(n))
  assert coco.Coco(path)[2]["image"] == jpeg(2)
  with pytest.raises(ValueError, match="000000.jpg"):
    coco.Coco(path)[0]


def test_a_coco_layout_is_found_by_names_as_tools_write_them(tmp_path):
  for name in ("C:\\me\\train2017\\000001.JPG", "000001.JPG"):
    image = dict(id=1, file_name=name, width=WIDTH, height=HEIGHT)
    folder = tmp_path / "annotations"
    path = write_coco(tmp_path / "made", images=[image], annotations=[])
    path = put(folder / "a_train2017.json", open(path, "rb").read())
    put(tmp_path / "train2017/000001.jpg", jpeg(7))
    (row,) = rows(coco.Coco(path))
    assert (row["image"], row["file_name"]) == (jpeg(7), name)


def test_coco_images_beside_the_folder_of_the_file_take_a_root(tmp_path):
  for name in ("../000001.jpg", "../../images/1.jpg"):
    folder = tmp_path / "a" / "b"
    put(folder / name, jpeg(7))
    image = dict(id=1, file_name=name, width=WIDTH, height=HEIGHT)
    path = write_coco(folder, images=[image], annotations=[])
    with pytest.raises(ValueError, match="set image_root to .* such as"):
      coco.Coco(path)[0]
    assert coco.Coco(path, image_root=tmp_path)[0]["image"] == jpeg(7)


def test_a_folder_in_place_of_a_coco_file_names_the_files_in_it(tmp_path):
  write_coco(tmp_path / "annotations")
  with pytest.raises(
    ValueError, match="is a folder: give the JSON.*/annotations/instances.json"
  ):
    coco.Coco(tmp_path)
  path = put(tmp_path / "a.jsonl", '{"image": "a"}\n{"image": "b"}\n')
  with pytest.raises(ValueError, match='JSON lines are source="jsonl"'):
    coco.Coco(path)


def test_coco_is_parsed_once(tmp_path, monkeypatch):
  path = write_coco(tmp_path)
  monkeypatch.setattr(index, "SMALL", 0)
  rows = list(map(coco.Coco(path).__getitem__, range(4)))
  monkeypatch.setattr(coco, "_parse", None)
  assert list(map(coco.Coco(path).__getitem__, range(4))) == rows


def test_coco_comes_from_urls(tmp_path):
  write_coco(tmp_path)
  with web.serve(tmp_path) as (url, _):
    found = coco.Coco(f"{url}/instances.json")
    assert found[2]["image"] == jpeg(2)
    assert found.where(2) == f"{url}/instances.json image 12 (000002.jpg)"


BAD_COCO_OBJECTS = [
  (dict(bbox=[0, 0, -3, 2]), r"the box \[0.0, 0.0, -3.0, 2.0\] ends before"),
  (dict(bbox=[60, 0, 8, 2]), r"not in the image, of width 64 and height 32"),
  (dict(bbox=[-2, 0, 8, 2]), "not in the image"),
  (dict(bbox=[0, 30, 8, 4]), "not in the image"),
  (dict(bbox=[0, 0, float("nan"), 1]), "wanted 4 numbers"),
  (dict(bbox=[0, 0, float("inf"), 1]), "wanted 4 numbers"),
  (dict(bbox=[0, 0, 1]), "wanted 4 numbers"),
  (dict(bbox="box"), "wanted 4 numbers"),
  (dict(bbox=7), "wanted 4 numbers"),
  (dict(bbox=None), "wanted 4 numbers"),
  (dict(iscrowd="yes"), "'iscrowd' should be 0 and 1, but is 'yes'"),
  (dict(iscrowd=2), "'iscrowd' should be 0 and 1, but is '2'"),
  (dict(area="big"), "'area' should be pixels, but is 'big'"),
  (dict(area=float("nan")), "'area' should be pixels"),
  (dict(segmentation="RLE"), '"segmentation" should be polygons or run le'),
  (dict(category_id=99), "category_id 99 is in no category"),
  (dict(category_id=[1]), r"category_id \[1\] is in no category"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_COCO_OBJECTS)
def test_a_bad_object_of_coco_is_named(changes, message, tmp_path):
  good = dict(id=1, image_id=11, category_id=4, bbox=[0, 0, 2, 2])
  bad = {**good, "id": 5, **changes}
  path = write_coco(tmp_path, annotations=[good, bad])
  found = coco.Coco(path)
  assert found[0]["labels"] == []
  name = f"{path} image 11 .000001.jpg.: object 1 .annotation 5.: .*"
  for look in (lambda: found[1], lambda: found.check(0)):
    with pytest.raises(ValueError, match=f"^{name}{message}"):
      look()


BAD_COCO_IMAGES = [
  (dict(file_name="none.jpg"), "none.jpg"),
  (dict(file_name="../000001.jpg"), "not in .*; set image_root"),
  (dict(file_name=None), '"file_name" should be a name, got None'),
  (dict(file_name="empty.jpg"), "is empty"),
  (dict(height=0), '"height" and "width" of the image should be pixels'),
  (dict(width="wide"), '"height" and "width" of the image should be pixels'),
]


@pytest.mark.parametrize(("changes", "message"), BAD_COCO_IMAGES)
def test_a_bad_image_of_coco_is_named(changes, message, tmp_path):
  put(tmp_path / "empty.jpg", b"")
  image = dict(id=11, file_name="000001.jpg", width=WIDTH, height=HEIGHT)
  a = dict(id=1, image_id=11, category_id=4, bbox=[0, 0, 2, 2])
  path = write_coco(tmp_path, images=[{**image, **changes}], annotations=[a])
  found = coco.Coco(path)
  for look in (lambda: found[0], lambda: found.check(0)):
    with pytest.raises(ValueError, match=f"^{path} image 11 .*{message}"):
      look()


def test_an_image_of_coco_without_objects_needs_no_size(tmp_path):
  found = coco.Coco(
    write_coco(tmp_path, images=[dict(file_name="000001.jpg")], annotations=[])
  )
  assert (found[0]["height"], found[0]["width"]) == (HEIGHT, WIDTH)


def test_check_finds_images_of_another_size_than_annotated(tmp_path):
  found = coco.Coco(write_coco(tmp_path))
  put(tmp_path / "000002.jpg", jpeg(0, (HEIGHT, WIDTH)))
  found.check(0)
  with pytest.raises(
    ValueError, match=r"image 12 .*000002.jpg: the image has height and "
  ):
    found.check(None)
  with pytest.raises(ValueError, match="image 12 .*was it rotated or resized"):
    found[2]  # as training sees it
  turned = io.BytesIO()  # as it is stored; upright it is as annotated
  exif = Image.Exif()
  exif[0x0112] = 6
  Image.new("RGB", (HEIGHT, WIDTH)).save(turned, "JPEG", exif=exif)
  put(tmp_path / "000002.jpg", turned.getvalue())
  found.check(None)


# How an upright image is stored: the opposite of Pillow's way back.
STORED = dict(
  zip(
    range(2, 9),
    (
      Image.Transpose.FLIP_LEFT_RIGHT,
      Image.Transpose.ROTATE_180,
      Image.Transpose.FLIP_TOP_BOTTOM,
      Image.Transpose.TRANSPOSE,
      Image.Transpose.ROTATE_90,
      Image.Transpose.TRANSVERSE,
      Image.Transpose.ROTATE_270,
    ),
  )
)


def write_turned(root, orientation):
  """Writes a turned photo whose upright image has a dog in white, as VOC, ...

  Returns:
    {name: source}.
  """
  pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
  pixels[4:12, 8:24] = 255
  stored, sink = Image.fromarray(pixels), io.BytesIO()
  if orientation in STORED:
    stored = stored.transpose(STORED[orientation])
  exif = Image.Exif()
  exif[0x0112] = orientation
  stored.save(sink, "JPEG", quality=100, subsampling=0, exif=exif)
  photo, box = sink.getvalue(), [((8, 4, 24, 12), "dog")]
  images = [dict(id=1, file_name="a.jpg", width=WIDTH, height=HEIGHT)]
  ids = dict(id=1, image_id=1, category_id=3)
  objects = [dict(ids, bbox=[8, 4, 16, 8])]
  path = write_coco(root, images=images, annotations=objects)
  put(root / "a.jpg", photo)
  for kind, size in dict(said=(WIDTH, HEIGHT), unsaid=(0, 0)).items():
    put(root / kind / "a.xml", xml(box, *size))
    put(root / kind / "a.jpg", photo)
  middle = f"{16 / WIDTH} {8 / HEIGHT} {16 / WIDTH} {8 / HEIGHT}"
  put(root / "yolo/images/a.jpg", photo)
  put(root / "yolo/labels/a.txt", f"0 {middle}")
  put(root / "yolo/classes.txt", "dog")
  return {
    "coco": coco.Coco(path),
    "voc": voc.Voc(root / "said"),
    "voc without a size": voc.Voc(root / "unsaid"),
    "yolo": yolo.Yolo(root / "yolo"),
  }


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_of_the_upright_image_whatever_the_format(
  orientation, tmp_path
):
  for name, found in write_turned(tmp_path, orientation).items():
    found.check(None)
    done = parse.build("decode(exif=True)")(found[0], pp.Turn())
    scale = (HEIGHT, WIDTH, HEIGHT, WIDTH)
    y1, x1, y2, x2 = np.round(np.multiply(done["boxes"][0], scale)).astype(int)
    assert (y1, x1, y2, x2) == (4, 8, 12, 24), name
    pixels = done["image"]
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert pixels[y1:y2, x1:x2].min() > 200, name
    assert (pixels > 128).sum() == 8 * 16 * 3, name
    if orientation > 4:
      with pytest.raises(ValueError, match=r"say decode\(exif=True\)"):
        parse.build("decode")(found[0], pp.Turn())


BAD_COCO_FILES = [
  ("", "is not JSON"),
  ("{", "is not JSON"),
  ("[" * 100000, "is not JSON"),
  ("[]", "wanted an object with 'images', got list"),
  ('{"annotations": []}', "wanted an object with 'images', got annotations"),
  ('{"images": []}', "has no images"),
  ('{"images": 7}', "images should be a list, got 7"),
  ('{"images": [7]}', r"images\[0\] should be an object, got 7"),
  ('{"images": [{"id": 1}, {"id": 1}]}', r"images\[1\] has the id of another"),
  (
    '{"images": [{"id": 1}], "annotations": [{"image_id": 2}]}',
    r"annotations\[0\] is of an image that is not in images: image_id 2",
  ),
]


@pytest.mark.parametrize(("text", "message"), BAD_COCO_FILES)
def test_a_file_that_is_not_coco_is_named(text, message, tmp_path):
  path = put(tmp_path / "x.json", text)
  with pytest.raises(ValueError, match=f"{path}.*{message}"):
    coco.Coco(path)


def test_a_coco_file_that_is_not_there_is_named(tmp_path):
  for path in (f"{tmp_path}/none.json", "/dev/null/x"):
    with pytest.raises(ValueError, match=f"cannot read {path}|{path} is not"):
      coco.Coco(path)


def test_real_photos_have_the_boxes_of_the_file(tmp_path):
  root = coco_free.write(tmp_path)
  total = 0
  for split in ("train", "val"):
    path = root / f"instances_{split}.json"
    captions = root / f"captions_{split}.json"
    data = json.loads(path.read_text())
    names = {c["id"]: c["name"] for c in data["categories"]}
    found = coco.Coco(path, root / "images", captions)
    found.check(None)
    for n, image in enumerate(data["images"]):
      row = found[n]
      ours = [a for a in data["annotations"] if a["image_id"] == image["id"]]
      assert row["image_id"] == image["id"]
      assert row["labels"] == [names[a["category_id"]] for a in ours]
      for key in ("iscrowd", "area", "segmentation"):
        assert row[key] == [a[key] for a in ours]
      assert len(row["captions"]) >= 5
      h, w = image["height"], image["width"]
      for (y1, x1, y2, x2), a in zip(row["boxes"], ours):
        again = [x1 * w, y1 * h, (x2 - x1) * w, (y2 - y1) * h]
        np.testing.assert_allclose(again, a["bbox"], atol=0.02)
    total += len(found)
  assert total == 51


# PASCAL VOC.


def test_voc_splits_are_the_lists_of_image_sets(tmp_path):
  root = write_voc(tmp_path)
  ids = lambda split: [row["image_id"] for row in rows(voc.Voc(root, split))]
  assert ids("val") == ["000002", "000001"]
  assert ids("val[1:]+train[:1]") == ["000001", "000000"]
  assert ids("dog_val") == ["000002"]
  with pytest.raises(ValueError, match="split; there are dog_val, train, val"):
    voc.Voc(root)
  with pytest.raises(
    ValueError, match='unknown split "vla"; did you mean "val'
  ):
    voc.Voc(root, "vla")


def rows(found):
  return [found[n] for n in range(len(found))]


def test_voc_pixels_start_at_one_or_at_zero(tmp_path):
  whole = xml([((0, 0, WIDTH, HEIGHT), "dog")])  # 1..WIDTH
  put(tmp_path / "a.xml", whole)
  put(tmp_path / "b.xml", whole.replace(">1<", ">0<"))
  for stem in "ab":
    put(tmp_path / f"{stem}.jpg", jpeg())
  one, zero = voc.Voc(tmp_path), voc.Voc(str(tmp_path), first_pixel=0)
  assert one[0]["boxes"] == zero[1]["boxes"] == [[0.0, 0.0, 1.0, 1.0]]
  assert one[1]["boxes"] == [[0.0, 0.0, 1.0, 1.0]]
  assert zero[0]["boxes"] == [[1 / HEIGHT, 1 / WIDTH, 1.0, 1.0]]


def test_voc_has_difficult_and_truncated(tmp_path):
  some = [((0, 0, 9, 9), "dog")] * 2
  text = xml(some, more="<difficult>1</difficult><truncated> 1 </truncated>")
  text = text.replace("<difficult>1", "<difficult>0", 1)
  put(tmp_path / "a.xml", text)
  put(tmp_path / "a.png", jpeg())
  row = voc.Voc(tmp_path)[0]
  assert (row["difficult"], row["truncated"]) == ([0, 1], [1, 1])


def test_voc_without_a_size_takes_that_of_the_image(tmp_path):
  put(tmp_path / "a.xml", xml([((0, 0, 8, 8), "dog")], 0, 0))
  put(tmp_path / "a.jpg", jpeg())
  row = voc.Voc(tmp_path)[0]
  assert (row["height"], row["width"]) == (HEIGHT, WIDTH)
  assert row["boxes"] == [[0.0, 0.0, 8 / HEIGHT, 8 / WIDTH]]


def test_voc_images_may_have_the_name_in_the_file(tmp_path):
  name = "<filename>other.jpg</filename><size>"
  put(tmp_path / "a.xml", xml([]).replace("<size>", name))
  put(tmp_path / "other.jpg", jpeg(5))
  assert voc.Voc(tmp_path)[0]["image"] == jpeg(5)


GOOD = xml([((0, 0, 8, 8), "cat"), ((0, 0, 9, 9), "dog")])
BAD_XML = [
  ("", "is not XML: no element found"),
  (GOOD[:-5], "is not XML: .*line 1, column"),
  (b"\xff\xfe\xfd", "is not XML"),
  (f'<?xml version="1.0" encoding="x-none"?>{GOOD}', "is not XML"),
  (GOOD.replace(">dog<", "><"), "object 1 has no name"),
  (GOOD.replace("<xmax>9<", "<xmax>-7<"), r"object 1 \(dog\): .*ends before"),
  (GOOD.replace("<xmax>9<", "<xmax>99<"), r"object 1 \(dog\): .*not in the im"),
  (GOOD.replace("<xmax>9<", "<xmax>x<"), r"object 1 \(dog\): wanted 4 numbers"),
  (GOOD.replace("<ymax>9</ymax>", ""), r"object 1 \(dog\): wanted 4 numbers"),
  (GOOD.replace("<ymax>9<", "<ymax>nan<"), r"object 1 \(dog\): wanted 4 numb"),
]


@pytest.mark.parametrize(("text", "message"), BAD_XML)
def test_a_bad_xml_file_is_named(text, message, tmp_path):
  path = put(tmp_path / "a.xml", text)
  put(tmp_path / "a.jpg", jpeg())
  put(tmp_path / "b.xml", GOOD)
  put(tmp_path / "b.jpg", jpeg())
  found = voc.Voc(tmp_path)
  assert found[1]["labels"] == ["cat", "dog"]
  for look in (lambda: found[0], lambda: found.check(0)):
    with pytest.raises(ValueError, match=f"^{path}:? .*{message}"):
      look()


def test_voc_files_that_are_not_there_are_named(tmp_path):
  root = tmp_path / "voc"
  found = voc.Voc(write_voc(root), "train")
  (root / "JPEGImages/000001.jpg").unlink()
  (root / "Annotations/000002.xml").unlink()
  with pytest.raises(
    ValueError, match="^.*000001.xml: .*JPEGImages/000001.jpg"
  ):
    found[1]
  with pytest.raises(ValueError, match="^.*000002.xml: .*No such file"):
    found[2]
  with pytest.raises(ValueError, match="000001.xml.*problem: 2 of 4"):
    found.check(0)
  put(root / "ImageSets/Main/none.txt", "\n")
  put(root / "ImageSets/Main/bytes.txt", b"\xff")
  for split, message in dict(none="no image in", bytes="cannot read").items():
    with pytest.raises(ValueError, match=f"{message} .*{split}.txt"):
      voc.Voc(root, split)
  with pytest.raises(ValueError, match="cannot read .*/nowhere"):
    voc.Voc(tmp_path / "nowhere")
  with pytest.raises(ValueError, match="no image in .*/Main"):
    voc.Voc(root / "ImageSets/Main")
  with pytest.raises(ValueError, match="xml is a file: give the folder with"):
    voc.Voc(root / "Annotations/000001.xml", "train")


def test_an_image_outside_of_a_voc_folder_is_refused(tmp_path):
  name = "<filename>../../etc/passwd</filename><size>"
  put(tmp_path / "a.xml", xml([]).replace("<size>", name))
  with pytest.raises(ValueError, match="^.*a.xml: .*passwd is not in"):
    voc.Voc(tmp_path)[0]


def test_folders_come_from_urls(tmp_path):
  fs = fsspec.filesystem("memory")
  write_voc(tmp_path / "voc")
  write_yolo(tmp_path / "yolo")
  fs.put(str(tmp_path / "voc"), "/f/voc", recursive=True)
  fs.put(str(tmp_path / "yolo"), "/f/yolo", recursive=True)
  assert voc.Voc("memory://f/voc", "val")[1]["image"] == jpeg(1)
  assert yolo.Yolo("memory://f/yolo")[1]["image"] == jpeg(1)


# YOLO.

LAYOUTS = [
  {"train": "images/train", "val": "images/val"},  # Ultralytics
  {"train": "../train/images", "val": "../val/images"},  # Roboflow
  {"train": "train.txt", "val": ["images/val"]},
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_yolo_splits_are_those_of_the_yaml(layout, tmp_path):
  for split in ("train", "val"):
    names = (f"images/{split}", f"labels/{split}")
    if layout["train"].startswith("../"):
      names = (f"{split}/images", f"{split}/labels")
    put(tmp_path / names[0] / f"{split}.jpg", jpeg())
    put(tmp_path / names[1] / f"{split}.txt", "7 0.5 0.5 0.5 0.25")
  put(tmp_path / "train.txt", "./images/train/train.jpg\n\n")
  yaml = json.dumps({"path": "/elsewhere", "names": {7: "a b"}, **layout})
  put(tmp_path / "data.yaml", yaml.replace('"7"', "7"))
  for split in ("train", "val"):
    (row,) = rows(yolo.Yolo(tmp_path, split))
    folder = "/".join(sorted(("images", split), reverse="../" in str(layout)))
    assert row["image_id"] == f"{folder}/{split}"
    assert row["labels"] == ["a b"]
    assert row["boxes"] == [[0.375, 0.25, 0.625, 0.75]]
  assert len(yolo.Yolo(tmp_path / "data.yaml", "train+val")) == 2


def test_yolo_without_a_yaml_has_classes_txt_and_folders(tmp_path):
  put(tmp_path / "classes.txt", "dog\ncat\n")
  for split in ("train", "val"):
    put(tmp_path / f"images/{split}/a.png", jpeg())
    put(tmp_path / f"labels/{split}/a.txt", "1 0.5 0.5 1 1\n")
  assert yolo.Yolo(tmp_path, "val")[0]["labels"] == ["cat"]
  assert yolo.Yolo(tmp_path, "val").where(0) == f"{tmp_path}/images/val/a.png"
  flat = tmp_path / "flat"
  for name in ("classes.txt", "a.txt"):
    put(flat / name, "dog" if name == "classes.txt" else "0 0.5 0.5 1 1")
  put(flat / "a.JPG", jpeg())
  assert yolo.Yolo(flat)[0]["labels"] == ["dog"]


def test_yolo_polygons_become_boxes(tmp_path):
  put(tmp_path / "classes.txt", "dog")
  put(tmp_path / "a.jpg", jpeg())
  put(tmp_path / "a.txt", "0 0.1 0.2 0.5 0.3 0.4 0.9\n")
  assert yolo.Yolo(tmp_path)[0]["boxes"] == [[0.2, 0.1, 0.9, 0.5]]


POSE = "0 0.6 0.5 0.4 0.2" + " 0.1 0.2 2" * 4  # 16 numbers: a polygon's too


def test_yolo_poses_are_their_boxes_and_not_polygons(tmp_path):
  root = write_yolo(tmp_path, "names: [a]\ntrain: images\nkpt_shape: [4, 3]\n")
  put(tmp_path / "labels/000000.txt", f"{POSE}\n0 0.6 0.5 0.4 0.2\n")
  for n in (1, 2, 3):
    put(tmp_path / f"labels/00000{n}.txt", POSE)
  found = yolo.Yolo(root)
  np.testing.assert_allclose(found[0]["boxes"], [[0.4, 0.4, 0.6, 0.8]] * 2)
  found.check(None)
  put(tmp_path / "labels/000001.txt", POSE.rpartition(" ")[0])
  for look in (lambda: found[1], lambda: found.check(0)):
    with pytest.raises(ValueError, match="000001.txt:1: .* or 16 .*; got 15"):
      look()


@pytest.mark.parametrize("shape", ["17", "[17]", "[0, 3]", "[17, 4]", "[a, 3]"])
def test_a_shape_of_keypoints_that_is_none_is_named(shape, tmp_path):
  yaml = f"names: [a]\ntrain: images\nkpt_shape: {shape}\n"
  with pytest.raises(ValueError, match=r'data.yaml: "kpt_shape" should be'):
    yolo.Yolo(write_yolo(tmp_path, yaml))


def test_an_oriented_box_becomes_the_upright_one_around_it(tmp_path):
  put(tmp_path / "classes.txt", "dog")
  put(tmp_path / "a.jpg", jpeg())
  put(tmp_path / "a.txt", "0 0.5 0.25 0.75 0.5 0.5 0.75 0.25 0.5\n")
  assert yolo.Yolo(tmp_path)[0]["boxes"] == [[0.25, 0.25, 0.75, 0.75]]


BAD_YOLO = [
  ("3 0.5 0.5 1 1", "class '3' is none of the 3 there are"),
  ("-1 0.5 0.5 1 1", "class '-1' is none"),
  ("1.0 0.5 0.5 1 1", "class '1.0' is none"),
  ("dog 0.5 0.5 1 1", "class 'dog' is none"),
  ("0 0.5 0.5 1", "wanted 4 numbers"),
  ("0 0.5 0.5 1 1 0.9", "wanted 4 numbers"),
  ("0", "wanted 4 numbers"),
  ("0 0.5 0.5 x 1", "wanted 4 numbers"),
  ("0 nan 0.5 1 1", "wanted 4 numbers"),
  ("0 0.9 0.5 0.5 1", "not in the image"),
  ("0 320 200 64 32", "not in the image"),
  ("0 0.5 0.5 -0.2 1", "ends before it starts"),
  ("0 0 0 0.5 0.5 1.5 1", "not in the image"),
]


@pytest.mark.parametrize(("line", "message"), BAD_YOLO)
def test_a_bad_line_of_yolo_is_named(line, message, tmp_path):
  root = write_yolo(tmp_path)
  path = put(tmp_path / "labels/000001.txt", f"0 0.5 0.5 1 1\n\n{line}\n")
  found = yolo.Yolo(root)
  assert found[0]["labels"] == []
  name = f"^{root}/images/000001.jpg: {path}:3: .*"
  for look in (lambda: found[1], lambda: found.check(0)):
    with pytest.raises(ValueError, match=name + message):
      look()


def test_yolo_files_that_are_no_text_or_no_image_are_named(tmp_path):
  root = write_yolo(tmp_path)
  put(tmp_path / "labels/000001.txt", b"\xff")
  put(tmp_path / "images/000002.jpg", b"")
  put(tmp_path / "images/000003.jpg", b"text")
  found = yolo.Yolo(root)
  for n, message in {
    1: "cannot read .*txt",
    2: "0 bytes",
    3: "no image",
  }.items():
    with pytest.raises(ValueError, match=f"^{root}/images/00000{n}.*{message}"):
      found[n]
  with pytest.raises(ValueError, match="000001.jpg.*problem: 3 of 4"):
    found.check(None)


BAD_YAML = [
  ("", '"names" should be'),
  ("names: [a\ntrain: [", "is not YAML"),
  (b"\xff", "is not YAML"),
  ("[" * 10000, "is not YAML"),
  ("[1, 2]", '"names" should be'),
  ("names: dog\ntrain: images", '"names" should be'),
  ("names: {a: b}\ntrain: images", '"names" should be'),
  ("names: [a]", "unknown split|split"),
  ("names: [a]\ntrain: nowhere", "there is no image in .*/nowhere"),
  ("names: [a]\ntrain: none.txt", "cannot read the images in .*/none.txt"),
  ("names: [a]\ntrain: labels", "there is no image in .*/labels"),
]


@pytest.mark.parametrize(("text", "message"), BAD_YAML)
def test_a_yolo_dataset_that_is_none_is_named(text, message, tmp_path):
  root = write_yolo(tmp_path, text)
  with pytest.raises(ValueError, match=message):
    yolo.Yolo(root)


def test_a_yolo_dataset_without_labels_or_names_is_refused(tmp_path):
  root = write_yolo(tmp_path)
  (tmp_path / "labels").rename(tmp_path / "label")
  with pytest.raises(ValueError, match=r"none of 4 .*in .*/labels/000000.txt"):
    yolo.Yolo(root)
  (tmp_path / "data.yaml").unlink()
  with pytest.raises(ValueError, match="no data.yaml and classes.txt"):
    yolo.Yolo(root)
  with pytest.raises(ValueError, match="cannot read .*nowhere"):
    yolo.Yolo(tmp_path / "nowhere")


def test_a_box_may_stick_out_as_far_as_rounding_makes_it():
  assert folders.box((-1, 0, 64.5, 32), 64, 32, slack=1) == [0, 0, 1, 1]
  assert folders.box((0.2, 0.2, 0.2, 0.2)) == [0.2] * 4
  for outside in ((-1.1, 0, 64, 32), (0, 0, 64, 33.1)):
    with pytest.raises(ValueError, match="not in the image"):
      folders.box(outside, 64, 32, slack=1)


def test_a_list_cannot_name_annotations_outside_of_the_dataset(tmp_path):
  root = tmp_path / "voc"
  write_voc(root)
  put(tmp_path / "secret.xml", xml(""))
  put(root / "ImageSets/Main/train.txt", "../../secret\n")
  with pytest.raises(ValueError, match=f"{tmp_path}/secret.xml is not in "):
    voc.Voc(root, "train")[0]
  root = tmp_path / "yolo"
  write_yolo(root, "names: [dog, traffic light, 日本]\ntrain: all.txt\n")
  put(root / "all.txt", f"{yolo_image(root)}\n../images/x.png\n")
  put(tmp_path / "labels/x.txt", "a secret")
  with pytest.raises(ValueError, match="labels/x.txt is not in ") as caught:
    yolo.Yolo(root)[1]
  assert "a secret" not in str(caught.value)


def yolo_image(root):
  return next(p for p in root.rglob("*.jpg")).relative_to(root)


def test_files_of_a_few_lines_that_stand_for_gigabytes_are_refused(tmp_path):
  root = tmp_path / "yolo"
  last, lines = "x", []
  for i in range(9):
    lines.append(f"a{i}: &a{i} [{', '.join([last] * 10)}]")
    last = f"*a{i}"
  write_yolo(root, "\n".join([*lines, f"names: [{last}]", "train: images"]))
  with pytest.raises(ValueError, match="data.yaml is not YAML: it has aliases"):
    yolo.Yolo(root)
  root = tmp_path / "voc"
  write_voc(root)
  last, lines = "x" * 10, []
  for i in range(9):
    lines.append(f'<!ENTITY a{i} "{last * 10}">')
    last = f"&a{i};"
  text = f"<!DOCTYPE x [{''.join(lines)}]><annotation>{last}</annotation>"
  path = next((root / "Annotations").glob("*.xml"))
  put(path, text)
  found = voc.Voc(root, "train")
  rows_of = {found.where(i): i for i in range(len(found))}
  with pytest.raises(ValueError, match="is not XML"):
    found[rows_of[str(path)]]
