"""Recipes of captions, videos, boxes and VQAv2: settings as published."""

import re

import pytest

from pg import config
from tests.support.tiny import ROOT

# Appendix J of arXiv 2407.07726: resolution, epochs or examples, batch size,
# learning rate, weight decay, label smoothing, dropout, is the tower frozen.
PUBLISHED = [
  ("activitynet_cap", 224, "1ep", 128, 1e-5, 1e-6, 0, 0, True),
  ("activitynet_qa", 224, "1ep", 128, 1e-5, 1e-6, 0, 0, False),
  ("coco35l", 224, "2832175 ex", 256, 1e-5, 1e-6, 0, 0, False),
  ("coco35l", 448, "2832175 ex", 256, 1e-5, 1e-6, 0, 0, False),
  ("cococap", 224, "5ep", 256, 1e-5, 1e-6, 0, 0, False),
  ("cococap", 448, "5ep", 256, 1e-5, 1e-6, 0, 0, False),
  ("msrvtt_cap", 224, "20ep", 128, 1e-5, 0, 0, 0, True),
  ("msrvtt_qa", 224, "1ep", 128, 1e-5, 0, 0, 0, True),
  ("msvd_qa", 224, "1ep", 128, 3e-6, 3e-7, 0, 0, False),
  ("refcoco_seg", 224, "100ep", 256, 3e-5, 0, 0.3, 0.1, False),
  ("refcoco_seg", 448, "100ep", 256, 1e-5, 0, 0.3, 0, False),
  ("refcoco_seg", 896, "100ep", 64, 1e-5, 0, 0.3, 0, False),
  ("scicap", 224, "80ep", 256, 3e-5, 0, 0.1, 0.1, False),
  ("scicap", 448, "80ep", 256, 3e-5, 0, 0.1, 0.1, False),
  ("screen2words", 224, "10ep", 256, 1e-5, 0, 0.2, 0.3, False),
  ("screen2words", 448, "10ep", 256, 1e-5, 0, 0.2, 0.3, False),
  ("textcaps", 224, "5ep", 256, 1e-5, 1e-6, 0, 0, False),
  ("textcaps", 448, "5ep", 256, 1e-5, 1e-6, 0, 0, False),
  ("vatex_cap", 224, "10ep", 128, 3e-6, 3e-7, 0, 0, False),
  ("vqav2", 224, "10ep", 256, 1e-5, 1e-6, 0, 0, False),
  ("vqav2", 448, "10ep", 256, 1e-5, 0, 0, 0, False),
  ("widgetcap", 224, "4ep", 64, 3e-6, 3e-7, 0.1, 0.1, False),
  ("widgetcap", 448, "4ep", 64, 3e-6, 3e-7, 0.1, 0.1, False),
]
# big_vision's configs: resolution and text positions, whether images are
# resized with antialias, and the beams of captions.
FORMS = dict(
  activitynet_cap=(224, 64, False, 1),
  activitynet_qa=(224, 64, False, 1),
  coco35l=(224, 32, False, 1),
  cococap=(224, 32, False, 2),
  msrvtt_cap=(224, 32, False, 1),
  msrvtt_qa=(224, 64, False, 1),
  msvd_qa=(224, 64, False, 1),
  pope=(224, 48, False, 1),
  refcoco_seg=(448, 48, False, 1),
  scicap=(224, 96, False, 1),
  screen2words=(224, 24, False, 1),
  textcaps=(224, 32, False, 3),
  vatex_cap=(224, 64, False, 1),
  vqav2=(224, 32, True, 1),
  widgetcap=(224, 32, True, 1),
)
# Frames, and of how many of the video one is taken.
FRAMES = dict(
  activitynet_cap=(16, 30),
  activitynet_qa=(16, 70),
  msrvtt_cap=(16, 9),
  msrvtt_qa=(16, 9),
  msvd_qa=(8, 26),
  vatex_cap=(16, 7),
)
# Percents of PaliGemma 3B at 224, 448 and 896 px, from big_vision's README.
SCORES = [
  ("activitynet_cap", "test", "cider", 34.62, None, None),
  ("activitynet_qa", "test", "exact", 50.78, None, None),
  ("coco35l", "dev", "cider/en", 139.2, 141.2, None),
  ("coco35l", "dev", "cider/mean_no_en", 115.8, 118.0, None),
  ("coco35l", "dev", "cider/mean", 116.4, 118.6, None),
  ("coco35l", "xm3600", "cider/en", 78.1, 80.0, None),
  ("coco35l", "xm3600", "cider/mean_no_en", 41.3, 41.9, None),
  ("coco35l", "xm3600", "cider/mean", 42.4, 42.9, None),
  ("cococap", "val", "cider", 141.92, 144.60, None),
  ("cococap", "nocaps", "cider", 121.72, 123.58, None),
  ("mix", "pope", "acc/random", 88.00, 89.37, None),
  ("mix", "pope", "acc/popular", 86.63, 88.40, None),
  ("mix", "pope", "acc/adversarial", 85.67, 87.47, None),
  ("mix", "mmvp", "acc/pairs", 46.00, 45.33, None),
  ("msrvtt_cap", "test", "cider", 70.54, None, None),
  ("msrvtt_qa", "test", "exact", 50.09, None, None),
  ("msvd_qa", "test", "exact", 60.22, None, None),
  ("pope", "pope", "acc/random", 87.80, 88.23, None),
  ("pope", "pope", "acc/popular", 85.87, 86.77, None),
  ("pope", "pope", "acc/adversarial", 84.27, 85.90, None),
  ("refcoco_seg", "refcoco_val", "miou", 73.40, 75.57, 76.94),
  ("refcoco_seg", "refcocoplus_val", "miou", 68.32, 69.76, 72.18),
  ("refcoco_seg", "refcocog_val", "miou", 67.65, 70.17, 72.22),
  ("scicap", "test", "cider", 162.25, 181.49, None),
  ("scicap", "test", "bleu-4", 19.2, 21.1, None),
  ("screen2words", "test", "cider", 117.57, 119.59, None),
  ("textcaps", "val", "cider", 127.48, 153.94, None),
  ("vatex_cap", "test", "cider", 79.73, None, None),
  ("vqav2", "test", "acc", 83.19, 85.64, None),
  ("vqav2", "pope", "acc/random", 87.80, 88.23, None),
  ("vqav2", "pope", "acc/popular", 85.87, 86.77, None),
  ("vqav2", "pope", "acc/adversarial", 84.27, 85.90, None),
  ("vqav2", "mmvp", "acc/pairs", 47.33, 45.33, None),
  ("widgetcap", "test", "cider", 136.07, 148.36, None),
]


def load(row, **arguments):
  words = ",".join(f"{k}={v}" for k, v in arguments.items())
  return config.load(f"{ROOT}/transfers/{row}.py:{words}")


@pytest.mark.parametrize(
  "row, res, total, size, lr, wd, smooth, drop, frozen", PUBLISHED
)
def test_the_setting_is_the_published_one(
  row, res, total, size, lr, wd, smooth, drop, frozen
):
  c = load(row, res=res)
  assert (c.total, c.batch_size, c.lr, c.wd) == (total, size, lr, wd)
  assert (c.label_smoothing, c.model.dropout) == (smooth, drop)
  assert (c.warmup, c.grad_clip, c.b2) == ("5%", 1, 0.999)
  tower = {"img/.*": None} if frozen else {}
  assert dict(c.schedule) == {**tower, ".*": "cosine"}


@pytest.mark.parametrize("row", FORMS)
def test_resolution_length_resize_and_beams_are_the_published_ones(row):
  c = load(row)
  res, num, smooth, beams = FORMS[row]
  assert (c.res, c.text_len) == (res, num)
  for name, how in {"train": {}, **c.evals}.items():
    # VQAv2 has the published antialias of POPE there.
    wanted = smooth and name != "pope"
    assert ("antialias=False" not in how.get("pp", c.pp)) == wanted, name
    if how.get("metric") in ("cider", "captions", "none"):
      assert how.get("num_beams", 1) == beams, name


@pytest.mark.parametrize("row", FRAMES)
def test_videos_begin_anywhere_in_training_alone(row):
  c = load(row)
  num, stride = FRAMES[row]
  assert c.num_images == num
  pattern = rf"video\({num}, {stride}(, start='start', end='end')?"
  assert re.match(rf"{pattern}, random=True\) \|", c.pp)
  for how in c.evals.values():
    assert re.match(rf"{pattern}\) \|", how.pp)
    assert how.pp.split(" | ")[1:] == c.pp.split(" | ")[1:]


@pytest.mark.parametrize("row, name, score, p224, p448, p896", SCORES)
@pytest.mark.filterwarnings("ignore:not in the mixture")
def test_a_score_is_the_published_one(row, name, score, p224, p448, p896):
  for res, percent in {224: p224, 448: p448, 896: p896}.items():
    found = load(row, res=res).evals[name].published.get(score)
    assert found == (percent and pytest.approx(percent / 100))
  assert not load(row, model="pg2_3b").evals[name].published
