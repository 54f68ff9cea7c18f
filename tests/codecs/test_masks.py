"""Masks survive 16 codes, and the codes are those of the reference."""

import functools
import hashlib
import io
import itertools
import json
import os
import pathlib
import pickle

import jax
import numpy as np
import pytest
from PIL import Image

from pg import pp
from pg.codecs import boxes, mask_tensors, masks
from pg.data.formats import coco
from pg.pp import masks as mask_ops
from pg.pp import parse
from scripts import made_masks, train_mask_codec
from tests.support import coco_free, paths

GOLDEN = paths.GOLDEN
WHOLE = (0, 0, 1, 1)
UNSEEN = train_mask_codec.SEED + 1  # of made-up masks


@functools.cache
def golden():
  with np.load(GOLDEN / "mask_codec.npz", allow_pickle=False) as z:
    return dict(z)


@functools.cache
def random_tensors():
  """Returns the reference's tensors, which are made and not stored."""
  z, tensors, digest = golden(), {}, hashlib.sha256()
  rng = np.random.default_rng(int(z["seed"]))
  names, shapes = z["names"].tolist(), json.loads(str(z["shapes_json"]))
  for name, shape, *stats in zip(names, shapes, z["scales"], z["offsets"]):
    scale, offset = stats
    draws = rng.standard_normal(shape) * scale + offset
    tensors[name] = draws.astype(np.float32)
    digest.update(tensors[name].tobytes())
  assert digest.hexdigest() == str(z["weights_sha256"])
  return tensors


@functools.cache
def released():
  """Returns a codec of the released size, with random weights."""
  return masks.build(random_tensors())


@functools.cache
def nano():
  return masks.load(masks.NANO)


def iou(a, b):
  return (a & b).sum() / max((a | b).sum(), 1)


# The reference: big_vision with random weights.


def test_a_mask_gets_the_codes_of_the_reference():
  z = golden()
  crops = z["masks"] / np.float32(255)
  found = masks.features(released(), crops)
  np.testing.assert_allclose(found, z["encoder_output"], atol=5e-3)
  np.testing.assert_array_equal(masks.quantize(released(), crops), z["indices"])


def test_an_object_in_an_image_gets_the_text_of_the_reference():
  z = golden()
  for i, wanted in enumerate(z["full_suffix"].tolist()):
    mask, box = z[f"full/{i}/mask"], z[f"full/{i}/bbox"]
    codes = masks.encode(released(), mask, box)
    assert boxes.encode(box) + boxes.encode_codes(codes) == wanted


def test_codes_become_the_mask_of_the_reference():
  z = golden()
  decoded = masks.decode(released(), z["codes"])
  assert decoded.dtype == np.float32
  np.testing.assert_allclose(decoded, z["decoded"], atol=1e-4)


def test_masks_in_images_overlap_as_in_the_reference():
  with np.load(GOLDEN / "metrics" / "refcoco_seg.npz") as z:
    z = dict(z)
  box, codes = z["tokens"][:, :4] - 256000, z["tokens"][:, 4:20] - 257024
  valid = ((box >= 0) & (box < 1024)).all(1)
  valid &= ((codes >= 0) & (codes < 128)).all(1)
  decoded = masks.decode(released(), codes * valid[:, None])
  start, scores = 0, []
  for i, (height, width) in enumerate(z["hw"].tolist()):
    stop = start - (-height * width // 8)
    bits = np.unpackbits(z["masks_packed"][start:stop])
    start = stop
    truth = bits[: height * width].reshape(height, width) == 1
    mask = masks.paste(decoded[i], box[i] / 1023, height, width)
    scores.append(iou(mask, truth) if valid[i] else 0)
  np.testing.assert_allclose(scores, z["iou"], atol=5e-3)
  assert np.mean(scores) > 0.2


# Files.


def test_the_tensors_are_those_of_the_released_file(tmp_path):
  tensors = random_tensors()
  assert {name: len(s) for name, s in mask_tensors.TENSORS.items()} == {
    name: value.ndim for name, value in tensors.items()
  }
  assert sum(value.size for value in tensors.values()) == 2_116_593
  path = tmp_path / "vae-oid.npz"
  np.savez(path, **tensors)
  assert path.stat().st_size == 8_479_556  # of the released file
  codec, codes = masks.load(path), golden()["codes"][:1]
  np.testing.assert_array_equal(
    masks.decode(codec, codes), masks.decode(released(), codes)
  )


def test_f16_weights_are_computed_with_in_f32():
  half = {k: v.astype(np.float16) for k, v in random_tensors().items()}
  wide = {k: v.astype(np.float32) for k, v in half.items()}
  codes = golden()["codes"][:1]
  codec = masks.build(half)
  arrays = [codec.codebook, *itertools.chain(*codec.layers.values())]
  assert {array.dtype for array in arrays} == {np.dtype(np.float32)}
  np.testing.assert_array_equal(
    masks.decode(codec, codes), masks.decode(masks.build(wide), codes)
  )


def test_all_tensors_that_do_not_fit_are_listed():
  tensors = dict(random_tensors())
  del tensors["encoder.4.bias"]
  tensors["encoder.12.bias"] = np.zeros(3, np.float32)
  tensors["decoder.6.weight"] = np.zeros((128, 60, 4, 4), np.float32)
  tensors["decoder.8.bias"] = np.zeros(32, np.int32)
  tensors["decoder.10.bias"] = np.zeros((16, 1), np.float32)
  tensors["_vq_vae._embedding"] = np.zeros((64, 512), np.float32)
  with pytest.raises(ValueError) as e:
    masks.build(tensors, "a.npz")
  first, *lines = str(e.value).splitlines()
  assert first.startswith("a.npz ")
  assert lines == [
    "- encoder.4.bias: is missing",
    "+ encoder.12.bias: is unknown",
    "! decoder.6.weight: shape (128, 60, 4, 4), wanted (128, 64, 4, 4)",
    "! decoder.8.bias: dtype int32, wanted float",
    "! decoder.10.bias: shape (16, 1), wanted (16,)",
    "! _vq_vae._embedding: shape (64, 512), wanted (128, 512)",
  ]


def test_a_file_that_is_no_codec_is_named(tmp_path):
  (tmp_path / "cut.npz").write_bytes(
    pathlib.Path(masks.NANO).read_bytes()[:9999]
  )
  (tmp_path / "text.npz").write_text("hello")
  np.save(tmp_path / "one.npy", np.zeros(3))
  for name in ("none.npz", "cut.npz", "text.npz", "one.npy"):
    with pytest.raises(ValueError, match=f"cannot read .*{name}"):
      masks.load(tmp_path / name)


class Bomb:
  """Raises where it is unpickled."""

  def __reduce__(self):
    return (pytest.fail, ("unpickled",))


def test_a_pickle_is_never_opened(tmp_path):
  path = tmp_path / "pickle.npz"
  np.savez(path, **{"encoder.0.weight": np.array([Bomb()], object)})
  with pytest.raises(ValueError, match="cannot read .*pickle"):
    masks.load(path)
  (tmp_path / "raw.npz").write_bytes(pickle.dumps(Bomb()))
  with pytest.raises(ValueError, match="cannot read .*pickle"):
    masks.load(tmp_path / "raw.npz")


# Shapes and places.


def test_a_batch_is_coded_as_its_masks_are_one_by_one():
  rng = np.random.default_rng(0)
  crops = rng.random((3, 23, 64, 64)) > 0.5
  codes = masks.quantize(nano(), crops)
  decoded = masks.decode(nano(), codes)
  assert codes.shape == (3, 23, 16) and decoded.shape == (3, 23, 64, 64)
  for i in np.ndindex(3, 23):
    np.testing.assert_array_equal(codes[i], masks.quantize(nano(), crops[i]))
    one = masks.decode(nano(), codes[i])
    np.testing.assert_allclose(decoded[i], one, atol=1e-4)
  none = np.zeros((0, 64, 64))
  assert masks.decode(nano(), masks.quantize(nano(), none)).shape == none.shape


def test_a_mask_is_cut_out_at_rounded_pixels():
  mask = np.random.default_rng(0).random((128, 256)) > 0.5
  box = np.array([31.6, 64.4, 96.4, 127.6]) / [128, 256, 128, 256]
  np.testing.assert_array_equal(masks.crop(mask, box), mask[32:96, 64:128])


@pytest.mark.parametrize("corner", [(0, 0), (1, 1), (0.4, 0.7)])
def test_a_box_without_a_pixel_is_cut_out_as_one_pixel(corner):
  mask = np.zeros((10, 10), bool)
  y, x = (min(round(10 * c), 9) for c in corner)
  mask[y, x] = True
  assert (masks.crop(mask, (*corner, *corner)) == 1).all()


def test_a_mask_is_pasted_into_its_box_cut_off_to_pixels():
  inside = np.ones((64, 64), np.float32)
  got = masks.paste(inside, (0.29, 0.5, 0.99, 0.75), 10, 20)
  wanted = np.zeros((10, 20), bool)
  wanted[2:9, 10:15] = True
  np.testing.assert_array_equal(got, wanted)
  assert masks.paste(inside, (-1, -1, 2, 2), 10, 20).all()
  assert not masks.paste(-inside, WHOLE, 10, 20).any()
  assert not masks.paste(inside, (0.5, 0, 0.5, 1), 10, 20).any()
  assert not masks.paste(inside, (0.7, 0, 0.5, 1), 10, 20).any()


def test_what_is_no_mask_box_or_code_is_refused():
  mask = np.ones((8, 8), bool)
  for wrong in (mask[0], mask.astype(int), mask[:0], mask[..., None]):
    with pytest.raises(ValueError, match=r"a mask bool\[height, width\]"):
      masks.encode(nano(), wrong, WHOLE)
  for wrong in ((0, 0, 1), (0, 0, 1, np.nan)):
    with pytest.raises(ValueError, match="wanted a box"):
      masks.encode(nano(), mask, wrong)
    with pytest.raises(ValueError, match="wanted a box"):
      masks.paste(np.ones((64, 64)), wrong, 8, 8)
  for wrong in ([0] * 15, [128] + [0] * 15, [-1] + [0] * 15, [0.5] * 16, 3):
    with pytest.raises(ValueError, match="wanted 16 codes in 0..127"):
      masks.decode(nano(), wrong)


# Our own codec.


def test_our_codec_is_small_and_of_f16():
  assert os.path.getsize(masks.NANO) < 2_000_000
  with np.load(masks.NANO, allow_pickle=False) as z:
    assert {z[name].dtype for name in z} == {np.dtype(np.float16)}


def test_unseen_masks_survive_16_codes_of_ours():
  pairs = made_masks.pairs(300, UNSEEN)
  assert train_mask_codec.round_trip(nano(), pairs).mean() >= 0.85
  codes = [masks.encode(nano(), *pair) for pair in pairs]
  assert len(np.unique(codes)) > 100  # of 128: none died


def test_polygons_of_photos_survive_16_codes_of_ours(tmp_path, monkeypatch):
  monkeypatch.setenv("PG_CACHE", str(tmp_path / "cache"))
  root = coco_free.write(tmp_path)
  source = coco.Coco(root / "instances_val.json", str(root / "images"))
  scores = []
  for i in range(len(source)):
    row = source[i]
    drawn = [mask_ops.mask_of(value, row) for value in row["segmentation"]]
    pairs = [pair for pair in zip(drawn, row["boxes"]) if pair[0].any()]
    if pairs:
      scores += train_mask_codec.round_trip(nano(), pairs).tolist()
  assert len(scores) > 100 and np.mean(scores) > 0.8  # 0.849 with train


def test_the_network_that_is_trained_is_the_one_that_is_used():
  with np.load(masks.NANO, allow_pickle=False) as z:
    tensors = {name: z[name].astype(np.float32) for name in z}
  crops = made_masks.crops(4, seed=3) / np.float32(255)
  features = jax.jit(train_mask_codec.encoder)(tensors, crops)
  np.testing.assert_allclose(features, masks.features(nano(), crops), atol=1e-4)
  codes = train_mask_codec.nearest(tensors, features).reshape(4, 16)
  np.testing.assert_array_equal(codes, masks.quantize(nano(), crops))
  near = tensors["_vq_vae._embedding"][codes].reshape(4, 4, 4, -1)
  np.testing.assert_allclose(
    jax.jit(train_mask_codec.decoder)(tensors, near),
    masks.decode(nano(), codes),
    atol=1e-4,
  )


def test_a_code_follows_what_is_near_and_is_moved_where_nothing_is():
  size = np.full(128, 16, np.float32)
  codes = np.zeros((128, 2), np.float32)
  codes[:, 0] = 1000 + np.arange(128)
  codes[0], size[5] = (0, 0), 0.5
  book = train_mask_codec._book(size, codes * size[:, None])
  z = np.tile(np.float32([[2, 4]]), (64, 1))
  after = train_mask_codec.follow(book, z, jax.random.key(0))
  moved = after["_vq_vae._embedding"]
  share = 0.01 * 64 / (0.99 * 16 + 0.01 * 64)
  np.testing.assert_allclose(moved[0], share * z[0], rtol=1e-5)
  np.testing.assert_allclose(moved[1], codes[1], rtol=1e-5)
  np.testing.assert_allclose(moved[5], z[0], rtol=1e-5)


@pytest.mark.slow
def test_training_makes_masks_better_and_is_the_same_each_time():
  data = made_masks.crops(256, seed=0)
  first, second, more = (train_mask_codec.train(n, data) for n in (3, 3, 60))
  for name, value in first.items():
    np.testing.assert_array_equal(value, second[name])
  pairs = made_masks.pairs(20, UNSEEN)
  scores = [
    train_mask_codec.round_trip(masks.build(tensors), pairs).mean()
    for tensors in (first, more)
  ]
  assert scores[0] + 0.1 < scores[1]


# Polygons and run lengths.

# Of pycocotools, of the mask below.
PACKED = "V71f;R1SE" + "0" * 38 + r"\O" + "AK?5" * 19
PACKED += "AK?i" + "0" * 39 + "[U1"


def packed_mask():
  mask = np.zeros((60, 90), bool)
  mask[5:40, 10:70] = True
  mask[20:30, 30:50] = False
  mask[50, 3] = True
  return mask


def counts_of(mask):
  """Returns the run lengths of a mask down its columns, outside first."""
  flat = mask.T.ravel()
  edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [1 - flat[-1]]])))
  return np.diff(np.concatenate([[0], edges])).tolist()


def test_run_lengths_go_down_the_columns():
  mask = mask_ops.run_lengths({"size": [2, 3], "counts": [1, 2, 2, 1]})
  assert mask.tolist() == [[False, True, False], [True, False, True]]
  for seed in range(20):
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 30, size=2)) > rng.random()
    value = {"size": list(mask.shape), "counts": counts_of(mask)}
    np.testing.assert_array_equal(mask_ops.run_lengths(value), mask)


@pytest.mark.parametrize("counts", [PACKED, PACKED.encode()])
def test_packed_run_lengths_are_those_of_coco(counts):
  value = {"size": [60, 90], "counts": counts}
  np.testing.assert_array_equal(mask_ops.run_lengths(value), packed_mask())


@pytest.mark.parametrize(
  "value",
  [
    {},
    {"size": [2, 3], "counts": [1, 2]},
    {"size": [2, 3], "counts": [7, -1]},
    {"size": [2, 3], "counts": [[6]]},
    {"size": [2, 3], "counts": "abc"},
    {"size": [0, 3], "counts": []},
    {"size": 6, "counts": [6]},
    {"size": ["a", 3], "counts": [6]},
  ],
)
def test_run_lengths_that_do_not_fill_the_mask_are_refused(value):
  with pytest.raises(ValueError, match="wanted {|counts "):
    mask_ops.run_lengths(value)


def covers(polygon, y, x):
  """Says whether a ray from a point to the left crosses an odd number."""
  corners = np.reshape(polygon, (-1, 2)).tolist()
  odd = False
  for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1]):
    if (ay > y) != (by > y) and ax + (y - ay) * (bx - ax) / (by - ay) <= x:
      odd = not odd
  return odd


def test_a_pixel_is_inside_of_a_polygon_where_its_middle_is():
  for seed in range(20):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 24, size=2).tolist()
    polygon = rng.uniform(-6, 30, size=2 * rng.integers(3, 9)).tolist()
    wanted = [
      [covers(polygon, y + 0.5, x + 0.5) for x in range(width)]
      for y in range(height)
    ]
    got = mask_ops.polygons([polygon], height, width)
    np.testing.assert_array_equal(got, wanted)


def test_several_polygons_are_one_object():
  left, right = [0, 0, 2, 0, 2, 3, 0, 3], [1, 1, 4, 1, 4, 2, 1, 2]
  got = mask_ops.polygons([left, right], 4, 5)
  wanted = np.zeros((4, 5), bool)
  wanted[0:3, 0:2] = wanted[1, 1:4] = True
  np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
  ("value", "message"),
  [
    ([], "no polygon"),
    ([[1, 2, 3, 4]], "three points"),
    ([[1, 2, 3, 4, 5, 6, 7]], "three points"),
    ([1, 2, 3, 4, 5, 6], "three points"),
    ([["a"] * 6], "three points"),
    ([[1, 2, 3, 4, 5, np.nan]], "nan"),
  ],
)
def test_what_is_no_polygon_is_refused(value, message):
  with pytest.raises(ValueError, match=message):
    mask_ops.polygons(value, 8, 8)


# The op.


def square(y1, x1, y2, x2):
  mask = np.zeros((32, 32), bool)
  mask[y1:y2, x1:x2] = True
  return mask


def apply(string, **example):
  return parse.build(string)(example, pp.Turn())


def test_masks_become_the_codes_that_segment_writes():
  whole, half = square(0, 0, 32, 32), square(0, 0, 32, 16)
  row = dict(boxes=[WHOLE, WHOLE], labels=["wall", "cat"], height=32, width=32)
  codes = [masks.encode(nano(), m, WHOLE) for m in (whole, half)]
  assert codes[0] != codes[1]
  polygon = [0, 0, 16, 0, 16, 32, 0, 32]
  got = apply(
    "encode_masks(masks='segmentation') | segment()",
    segmentation=[{"size": [32, 32], "counts": [0, 1024]}, [polygon]],
    **row,
  )
  place = "<loc0000><loc0000><loc1023><loc1023>"
  segs = list(map(boxes.encode_codes, codes))
  assert got["prefix"] == "segment wall ; cat"
  assert got["suffix"] == f"{place}{segs[0]} wall ; {place}{segs[1]} cat"
  for values in ([whole, half], 255 * np.stack([whole, half]).astype(np.uint8)):
    assert apply("encode_masks", masks=values, **row)["codes"] == codes


def test_one_array_is_the_mask_of_one_object():
  mask, box = square(8, 8, 16, 24), (0.25, 0.25, 0.5, 0.75)
  got = apply("encode_masks(masks='mask')", mask=mask, boxes=[box])
  assert got["codes"] == [masks.encode(nano(), mask, box)]


def test_a_row_without_objects_has_no_codes():
  assert apply("encode_masks", masks=[], boxes=[])["codes"] == []


def test_another_codec_has_other_codes(tmp_path):
  path = tmp_path / "other.npz"
  np.savez(path, **random_tensors())
  mask = square(0, 0, 20, 20)
  got = apply(f"encode_masks({str(path)!r})", masks=[mask], boxes=[WHOLE])
  assert got["codes"] == [masks.encode(released(), mask, WHOLE)]


def test_an_image_is_a_mask():
  picture = Image.fromarray(square(0, 0, 9, 9))
  picture.save(buffer := io.BytesIO(), "PNG")
  got = mask_ops.mask_of(buffer.getvalue(), {})
  np.testing.assert_array_equal(got, square(0, 0, 9, 9))


@pytest.mark.parametrize(
  ("example", "message"),
  [
    (dict(boxes=[WHOLE], mask=[]), 'did you mean "mask"'),
    (dict(boxes=[WHOLE], masks=3), "should be a list"),
    (dict(boxes=[WHOLE], masks=[]), "'masks' has 0 items, 'boxes' 1"),
    (dict(boxes=[WHOLE], masks=[b"x"]), "item 0: cannot decode"),
    (dict(boxes=[WHOLE], masks=["x"]), "item 0: wanted a mask as"),
    (
      dict(boxes=[WHOLE], masks=np.ones((1, 3, 3, 3), bool)),
      "wanted a mask as",
    ),
    (dict(boxes=[WHOLE], masks=[np.ones((2, 2))]), "item 0: wanted a mask as"),
    (dict(boxes=[WHOLE], masks=[[[0, 0, 1, 0, 1, 1]]]), "'height' and 'width'"),
    (dict(boxes=[WHOLE], masks=[{}]), "item 0: wanted {"),
  ],
)
def test_the_mask_that_is_wrong_is_named(example, message):
  with pytest.raises(ValueError, match=message):
    apply("encode_masks", **example)


ZIGZAG = [0, 0, 3000, 0] + [1, 3000, 2, 0] * 40_000
HUGE = {
  "run lengths": ({"size": [10**6, 10**6], "counts": [10**12]}, {}),
  "text": ({"size": [10**9, 10**9], "counts": "PPP"}, {}),
  "polygons": ([[0, 0, 9, 0, 9, 9]], dict(height=10**6, width=10**6)),
  "a zigzag": ([ZIGZAG], dict(height=3000, width=3000)),
}


@pytest.mark.parametrize("name", HUGE)
def test_a_small_row_of_a_huge_mask_is_refused(name):
  value, example = HUGE[name]
  with pytest.raises(ValueError, match="are more than input.max_pixels"):
    mask_ops.mask_of(value, example)


@pytest.mark.filterwarnings("ignore:.*decompression bomb")
def test_a_small_image_of_a_huge_mask_is_refused():
  sink = io.BytesIO()
  Image.new("1", (9500, 9500)).save(sink, "PNG")
  with pytest.raises(ValueError, match="are more than input.max_pixels"):
    mask_ops.mask_of(sink.getvalue(), {})
