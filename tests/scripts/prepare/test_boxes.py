"""RefCOCO and COCO detection: rows as they are written, and bad releases."""

import functools
import json
import os
import pickle

import numpy as np
import pytest

from pg import config, pp
from pg.codecs import boxes as boxes_lib
from pg.codecs import masks as masks_lib
from pg.codecs import tokenizer
from pg.data import pipeline, prefix_lm, stream
from pg.data.formats import prepared
from pg.evals.metrics import METRICS
from pg.pp import masks as mask_ops
from scripts.prepare import coco_det, refcoco_seg, release
from tests.support.releases import boxes as made
from tests.support.tiny import ROOT

KITE, PLANT = [0.2, 0.2, 0.6, 0.8], [0.50625, 0.01, 1.0, 0.41]
OUTLINE = [[10.0, 8.0, 40.0, 8.0, 40.0, 24.0, 10.0, 24.0]]


@pytest.fixture
def raw(tmp_path):
  folder = tmp_path / "raw"
  folder.mkdir()
  return folder


def prepare(module, raw, **options):
  """Prepares a release, whatever its size; returns the folder."""
  out = raw.parent / "data" / module.__name__.rpartition(".")[2]
  options = dict(allow_incomplete=True, quiet=True) | options
  release.prepare(module.splits, raw, out, **options)
  return out


def rows(folder, split):
  """Returns the rows of a split without their images."""
  source = prepared.find(folder, split)
  return [
    {k: v for k, v in source[i].items() if k != "image"}
    for i in range(len(source))
  ]


# RefCOCO.


def test_a_sentence_has_the_box_and_outline_of_what_it_means(raw):
  made.refcoco_seg(raw)
  folder = prepare(refcoco_seg, raw)
  found = rows(folder, "refcocoplus_testB")
  assert [r["sentence"] for r in found] == ["red kite", "kite on the left"]
  assert found[1] == dict(
    image_id=6,
    height=40,
    width=50,
    ref_id=60,
    sent_id=121,
    sentence="kite on the left",
    box=KITE,
    segmentation=OUTLINE,
  )
  names = {"refcoco", "refcocoplus", "refcocog"}
  splits = {p.stem for p in folder.iterdir()} - {"train"}
  assert {name.split("_")[0] for name in splits} == names and len(splits) == 8


def test_an_image_is_trained_on_with_all_that_is_said_of_it(raw):
  made.refcoco_seg(raw)
  one, two = rows(prepare(refcoco_seg, raw), "train")
  assert (one["image_id"], one["boxes"]) == (1, [KITE, PLANT])
  assert one["segmentation"][0] == OUTLINE
  assert one["sentences"] == [["red kite", "kite on the left"] * 3] * 2
  assert two["image_id"] == 2


def test_an_image_that_one_of_the_sets_holds_out_is_not_trained_on(raw):
  made.refcoco_seg(raw)
  found = prepare(refcoco_seg, raw)
  assert [r["image_id"] for r in rows(found, "train")] == [1, 2]  # without 3
  assert {r["image_id"] for r in rows(found, "refcocog_val")} == {3, 4}


def test_photos_of_2014_are_as_good(raw):
  made.refcoco_seg(raw)
  (raw / "train2017").rename(raw / "train2014")
  for path in (raw / "train2014").iterdir():
    path.rename(path.with_name(f"COCO_train2014_{path.name}"))
  assert len(rows(prepare(refcoco_seg, raw), "train")) == 2


def test_a_pickle_cannot_run_a_program(raw):
  made.refcoco_seg(raw)
  (raw / "refcoco/refs(unc).p").write_bytes(pickle.dumps(os.getcwd))
  message = r"refs\(unc\).p is no pickle of references: it has a posix.getcwd"
  with pytest.raises(ValueError, match=message):
    prepare(refcoco_seg, raw)


def test_references_of_another_version_are_named(raw):
  made.refcoco_seg(raw)
  path = raw / "refcocog/refs(umd).p"
  refs = pickle.loads(path.read_bytes())
  refs[1]["ann_id"] = 99
  path.write_bytes(pickle.dumps(refs))
  with pytest.raises(ValueError, match="no annotation 99 of image 2, which is"):
    prepare(refcoco_seg, raw)
  del refs[1]["ann_id"]
  path.write_bytes(pickle.dumps(refs))
  with pytest.raises(
    ValueError, match="reference 1 has no 'ann_id', only 'ref"
  ):
    prepare(refcoco_seg, raw)


def test_a_training_set_of_another_size_is_another_version(raw):
  made.refcoco_seg(raw)
  with pytest.raises(ValueError, match="2 images and 24,407 were published"):
    prepare(refcoco_seg, raw, allow_incomplete=False)


@pytest.fixture
def refcoco(raw):
  """Returns the config of the recipe on a small release."""
  made.refcoco_seg(raw)
  folder = prepare(refcoco_seg, raw)
  path = f"{ROOT}/transfers/refcoco_seg.py"
  return config.load(f"{path}:codec=nano,data={folder.parent}")


def test_the_codes_of_refcoco_are_of_the_object_that_is_asked_for(refcoco):
  (data,) = pipeline.datasets(refcoco.data, refcoco.pp)
  codec, seen = masks_lib.load(masks_lib.NANO), []
  for epoch in range(16):
    example = stream.read(data, 0, pp.Turn(epoch=epoch), dict)
    (found,), rest = boxes_lib.read(example["suffix"])
    assert rest == [] and example["prefix"] in example["sentences"][0]
    outline = mask_ops.polygons(example["segmentation"], 40, 50)
    assert list(found.codes) == masks_lib.encode(codec, outline, example["box"])
    np.testing.assert_allclose(found.box, example["box"], atol=1e-3)
    seen.append(example["box"])
  for two in zip(seen[::2], seen[1::2]):  # another one in the second epoch
    assert sorted(two) == [KITE, PLANT]


def test_a_true_answer_of_refcoco_scores_well(refcoco):
  spec = refcoco.evals.refcoco_testA
  named = dict(refcoco.data) | dict(split=spec.split)
  (data,) = pipeline.datasets(named, spec.pp)
  example = stream.read(data, 0, pp.Turn(), dict)
  right = METRICS["refcoco"]([example["suffix"]], [example])
  assert right["miou"] > 0.9 and right["box@.75"] == 1
  wrong = METRICS["refcoco"]([f"<loc0000>{example['suffix'][9:]}"], [example])
  assert wrong["miou"] < right["miou"]


# COCO.


def test_an_image_of_coco_has_its_objects_and_size(raw):
  made.coco_det(raw)
  found = rows(prepare(coco_det, raw), "train")
  assert found[0] == dict(
    image_id=1,
    height=40,
    width=50,
    boxes=[KITE, PLANT, [0.4, 0.04, 1.0, 0.06]],
    labels=["kite", "potted plant", "kite"],
    iscrowd=[0, 0, 1],
    area=[480.0, 395.0, 24.0],
  )
  nothing = dict(boxes=[], labels=[], iscrowd=[], area=[])
  assert found[2] == dict(image_id=11, height=40, width=50, **nothing)


def test_the_test_images_of_coco_have_no_boxes(raw):
  made.coco_det(raw)
  (row,) = rows(prepare(coco_det, raw), "test")
  assert row == dict(image_id=5, height=40, width=50)


def test_a_box_outside_of_its_image_is_named(raw):
  made.coco_det(raw)
  path = raw / "annotations/instances_val2017.json"
  content = json.loads(path.read_text())
  content["annotations"][1]["bbox"] = [30.0, 0.0, 30.0, 10.0]
  path.write_text(json.dumps(content))
  message = "val2017.json: annotation 31: the box .* is not in the image"
  with pytest.raises(ValueError, match=message):
    prepare(coco_det, raw)


def test_photos_that_are_missing_have_an_archive(raw):
  made.coco_det(raw)
  os.remove(raw / f"train2017/{1:012d}.jpg")
  message = "1 images or clips are missing; get train2017.zip from cocodata"
  with pytest.raises(ValueError, match=message):
    prepare(coco_det, raw, allow_incomplete=False)


@pytest.fixture
def detection(raw):
  """Returns the config of the recipe on a small release, with 6 boxes."""
  made.coco_det(raw)
  folder = prepare(coco_det, raw)
  path = f"{ROOT}/transfers/coco_det.py"
  return config.load(f"{path}:num=6,model=nano,data={folder.parent}")


def test_objects_are_learnt_and_of_noise_only_that_it_is_noise(detection):
  (data,) = pipeline.datasets(detection.data, detection.pp)
  example = stream.read(data, 0, pp.Turn(), dict)
  tok = tokenizer.Tokenizer(tokenizer.NANO)
  texts = example["prefix"], example["suffix"]
  row = prefix_lm.make(*texts, tok, 200, example["no_loss"])
  text = tok.decode(row["tokens"][row["mask_loss"]])
  found, _ = boxes_lib.read(text)
  assert sorted(o.label.strip(" ~") for o in found) == ["kite", "potted plant"]
  assert text.count("~") == 4 and text.count("<loc") == 8


def test_the_true_boxes_of_all_objects_are_scored(detection):
  spec = detection.evals.val
  named = dict(detection.data) | dict(split=spec.split)
  (data,) = pipeline.datasets(named, spec.pp)
  read = functools.partial(stream.read, data, turn=pp.Turn(), make=dict)
  examples = [read(i) for i in range(3)]
  assert examples[0]["prefix"] == "detect all classes"
  assert "suffix" not in examples[0] and examples[0]["iscrowd"] == [0, 0, 1]
  right = [boxes_lib.detect(e["boxes"][:2], e["labels"][:2]) for e in examples]
  assert METRICS["coco_bbox"](right, examples)["AP"] > 0.9
  assert METRICS["coco_bbox"](right[::-1], examples)["AP"] < 0.9


@pytest.mark.parametrize("model", ["nano", "pg2_3b"])
def test_boxes_of_noise_and_eos_are_never_written(model):
  for name in ("coco_det", "detect_own"):
    c = config.load(f"{ROOT}/transfers/{name}.py:model={model}")
    noise = {"nano": "~", "pg2_3b": "<unused0>"}[model]
    how = c.evals.get("val") or c.evals.seen_val
    assert how.forbid == (noise, "<eos>")
    assert f"'{noise}'" in c.pp
    assert how.max_len == 8 * c.arg.num < c.text_len


# Detection of one's own.


def test_own_images_are_read_in_all_three_formats(raw):
  made.detect_own(raw)
  voc, yolo = raw / "voc", raw / "yolo"
  for split in ("train", "val"):
    (yolo / "labels" / split).mkdir(parents=True)
    made.photos(yolo / "images" / split, [1])
    labels = "0 0.5 0.4 0.6 0.4\n"
    (yolo / "labels" / split / f"{1:012d}.txt").write_text(labels)
  (yolo / "classes.txt").write_text("kite\n")
  for folder in ("Annotations", "ImageSets/Main"):
    (voc / folder).mkdir(parents=True)
  made.photos(voc / "JPEGImages", [1])
  for split in ("train", "val"):
    (voc / f"ImageSets/Main/{split}.txt").write_text(f"{1:012d}\n")
  (voc / f"Annotations/{1:012d}.xml").write_text(
    "<annotation><size><width>50</width><height>40</height></size><object>"
    "<name>kite</name><bndbox><xmin>11</xmin><ymin>9</ymin><xmax>40</xmax>"
    "<ymax>24</ymax></bndbox></object></annotation>"
  )
  coco = f"source=coco,train={raw}/train/boxes.json,val={raw}/val/boxes.json"
  for words in (coco, f"source=voc,train={voc}", f"source=yolo,train={yolo}"):
    c = config.load(f"{ROOT}/transfers/detect_own.py:model=nano,{words}")
    (data,) = pipeline.datasets(c.data, c.pp)
    example = stream.read(data, 0, pp.Turn(), dict)
    assert f"{boxes_lib.encode(KITE)} kite" in example["suffix"]
    val = {k: v for k, v in c.evals.val.items() if k not in ("pp", "forbid")}
    spec = {k: val[k] for k in val if k in ("source", "path", "split")}
    (data,) = pipeline.datasets(spec, c.evals.val.pp)
    example = stream.read(data, 0, pp.Turn(), dict)
    assert "kite" in example["labels"] and example["height"] == 40
