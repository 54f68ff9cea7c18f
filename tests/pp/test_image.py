"""Image files become the pixels the references see, or a ValueError."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from pg import limits, pp
from pg.pp import image, parse

NOISE = np.random.default_rng(0).integers(256, size=(20, 30, 3), dtype=np.uint8)
GRAY = NOISE[..., 0]


def apply(string, pixels, **example):
  return parse.build(string)({"image": pixels, **example}, pp.Turn())["image"]


def encoded(array, mode=None, kind="PNG", **kw):
  f = io.BytesIO()
  pixels = Image.fromarray(array)
  (pixels.convert(mode) if mode else pixels).save(f, kind, **kw)
  return f.getvalue()


def smooth(height, width):
  """Waves of colours: what a JPEG of it keeps is not only noise."""
  y, x = np.mgrid[:height, :width] / 9
  waves = [np.sin(y + x), np.cos(y - 2 * x), np.sin(y * x / 9)]
  return np.uint8(127.5 + 127 * np.stack(waves, axis=-1))


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_precise_decoding_is_pillows_bit_for_bit(subsampling, progressive):
  kw = dict(subsampling=subsampling, progressive=progressive)
  for shape in ((20, 30), (33, 17), (1, 1), (64, 48)):
    for pixels in (smooth(*shape), smooth(*shape)[..., 0]):
      data = encoded(pixels, kind="JPEG", quality=90, **kw)
      wanted = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
      np.testing.assert_array_equal(apply("decode(precise=True)", data), wanted)


def test_the_fast_dct_is_the_default_and_close_to_the_accurate_one():
  data = encoded(smooth(99, 99), kind="JPEG", quality=90)
  fast, precise = apply("decode", data), apply("decode(precise=True)", data)
  off = np.abs(fast.astype(int) - precise)
  assert 0 < off.mean() < 2
  assert off.max() < 20


def palette(array):
  """A PNG with a palette of which one entry is transparent."""
  return encoded(array, "P", transparency=b"\0" + b"\xff" * 255)


def ppm16(gray):
  head = b"P5 %d %d 65535\n" % gray.shape[::-1]
  return head + (gray.astype(">u2") * 257).tobytes()


def threefold(gray):
  return np.repeat(gray[..., None], 3, axis=-1)


def animated(kind):
  f = io.BytesIO()
  frames = [Image.fromarray(threefold(np.uint8(GRAY > x))) for x in (99, 9)]
  frames[0].save(f, kind, save_all=True, append_images=frames[1:])
  return f.getvalue()


KINDS = {
  "RGB": (encoded(NOISE), NOISE),
  "gray": (encoded(GRAY), threefold(GRAY)),
  "gray and alpha": (encoded(NOISE[..., :2], None), threefold(GRAY)),
  "RGBA": (encoded(np.dstack([NOISE, GRAY])), NOISE),
  "black and white": (encoded(GRAY > 99), threefold(np.uint8(GRAY > 99) * 255)),
  "16 bits": (encoded(np.uint16(GRAY) * 257), threefold(GRAY)),
  "16 bits, PPM": (ppm16(GRAY), threefold(GRAY)),
  "16 bits, TIFF": (
    encoded(np.uint16(GRAY) * 256 + 255, kind="TIFF"),
    threefold(GRAY),
  ),
  "palette": (
    palette(NOISE),
    np.array(Image.fromarray(NOISE).convert("P").convert("RGB")),
  ),
  "animated PNG": (animated("PNG"), threefold(np.uint8(GRAY > 99))),
  "animated GIF": (animated("GIF"), threefold(np.uint8(GRAY > 99))),
  "WebP": (encoded(NOISE, kind="WEBP", lossless=True), NOISE),
  "BMP": (encoded(NOISE, kind="BMP"), NOISE),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", KINDS)
def test_decode_gives_rgb_of_a_file_of_kind(kind):
  data, wanted = KINDS[kind]
  out = apply("decode", data)
  assert out.dtype == np.uint8
  np.testing.assert_array_equal(out, wanted)


def test_cmyk_is_inks_on_white_paper():
  inks = np.dstack([smooth(40, 60), smooth(40, 60)[..., 0] // 2])
  f = io.BytesIO()
  Image.fromarray(inks, "CMYK").save(f, "JPEG", quality=100)
  wanted = (255.0 - inks[..., :3]) * (255.0 - inks[..., 3:]) / 255
  out = apply("decode", f.getvalue())
  assert np.abs(out - wanted).mean() < 4
  # By Pillow: simplejpeg would use the fast DCT.
  opened = Image.open(io.BytesIO(f.getvalue())).convert("RGB")
  np.testing.assert_array_equal(out, np.array(opened))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_image_turned_by_exif_is_turned_upright_if_asked(kind, orientation):
  exif = Image.Exif()
  exif[0x0112] = orientation
  data = encoded(smooth(20, 30), kind=kind, exif=exif)
  stored = apply("decode(precise=True)", data)
  assert stored.shape == (20, 30, 3)
  opened = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
  out = apply("decode(precise=True, exif=True)", data)
  assert out.flags.c_contiguous
  np.testing.assert_array_equal(out, np.array(opened))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_upright_once(orientation):
  exif = Image.Exif()
  exif[0x0112] = orientation
  data = encoded(smooth(20, 30), kind="TIFF", exif=exif)
  wanted = np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
  for string in ("decode", "decode(exif=True)"):
    np.testing.assert_array_equal(apply(string, data), wanted)
  assert image.sizes(data) == (wanted.shape[:2],) * 2


def chunk(name, data):
  crc = struct.pack(">I", zlib.crc32(name + data))
  return struct.pack(">I", len(data)) + name + data + crc


def bomb(kind, height, width):
  """A small file that says it is a large image."""
  if kind == "PNG":
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    zeros = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zeros)
  data = encoded(NOISE, kind=kind)
  old = struct.pack(">HH", *NOISE.shape[:2])
  assert data.count(old) == 1
  return data.replace(old, struct.pack(">HH", height, width))


@pytest.mark.filterwarnings("ignore:.*decompression bomb")
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("side", [9500, 30000, 65000])
def test_a_small_file_of_a_huge_image_is_refused(kind, side):
  with pytest.raises(ValueError, match="pixels"):
    apply("decode", bomb(kind, side, side))


def test_the_limit_of_pixels_is_the_last_size_that_passes():
  for kind in ("PNG", "JPEG"):
    data = encoded(NOISE, kind=kind)
    with limits.within(limits.Limits(max_pixels=600)):
      assert apply("decode", data).shape == (20, 30, 3)
    with (
      limits.within(limits.Limits(max_pixels=599)),
      pytest.raises(ValueError, match="20 x 30 are more .*max_pixels = 599;"),
    ):
      apply("decode", data)


@pytest.mark.filterwarnings("ignore:.*decompression bomb")
def test_the_size_of_an_image_is_read_from_its_start():
  shown = Image.fromarray(np.zeros((40, 50, 3), np.uint8))
  sink = io.BytesIO()
  shown.save(sink, "JPEG")
  assert image.sizes(sink.getvalue()[:-50])[1] == (40, 50)
  for orientation in range(1, 9):  # from 5 on it lies on its side
    for kind in ("JPEG", "PNG"):
      sink, exif = io.BytesIO(), Image.Exif()
      exif[0x0112] = orientation
      shown.save(sink, kind, exif=exif)
      seen = (40, 50) if orientation < 5 else (50, 40)
      assert image.sizes(sink.getvalue())[1] == seen
  with pytest.raises(ValueError, match="no image that can be read"):
    image.sizes(b"text")
  with pytest.raises(ValueError, match="pixels"):
    image.sizes(bomb("PNG", 9500, 9500))


def gif(canvas, frame):
  """A GIF whose frame is larger than its canvas, without pixels."""
  head = b"GIF89a" + struct.pack("<HH", *canvas) + bytes(3)
  place = b"," + struct.pack("<HHHHB", 0, 0, *frame, 0x80) + bytes(6)
  return head + place + b"\x02\x02\x4c\x01\x00;"


def webp(side):
  """An animation of one frame of 8 x 8 on a larger canvas."""
  size = (side - 1).to_bytes(3, "little")
  still = encoded(NOISE[:8, :8], kind="WEBP", lossless=True)[12:]
  frame = bytes(6) + b"\7\0\0" * 2 + bytes(4) + still
  chunks = (b"VP8X", struct.pack("<I", 2) + size * 2), (b"ANIM", bytes(6))
  body = b"WEBP"
  for name, data in (*chunks, (b"ANMF", frame)):
    body += name + struct.pack("<I", len(data)) + data
  return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.filterwarnings("ignore:.*decompression bomb")
@pytest.mark.parametrize(
  "data",
  [gif((10, 10), (9500, 9500)), gif((65000, 65000), (9, 9)), webp(9500)],
  ids=["GIF frame", "GIF canvas", "WebP"],
)
def test_an_animation_of_a_huge_canvas_is_refused_before_it_is_made(data):
  with pytest.raises(ValueError, match="pixels"):
    apply("decode", data)


def test_a_jpeg_that_decodes_for_hours_is_refused():
  data = encoded(NOISE, kind="JPEG", progressive=True)
  scan = data[data.rindex(b"\xff\xda") : -2]
  apply("decode", data[:-2] + 400 * scan + data[-2:])
  with pytest.raises(ValueError, match="more than 500 scans"):
    apply("decode", data[:-2] + 600 * scan + data[-2:])


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"
REFUSED = {
  "no bytes": (b"", "none of JPEG, PNG"),
  "a text": (b"not an image", "none of JPEG, PNG"),
  "a program for a printer": (EPS, "none of JPEG, PNG"),
  "half a GIF": (b"GIF89a", "cannot decode an image of 6 bytes"),
  "a PPM without pixels": (b"P6 999 999 255\n", "of 15 bytes"),
  "32 bits": (encoded(np.int32(GRAY), kind="TIFF"), "values have 32 bits"),
  "floats": (encoded(np.float32(GRAY), kind="TIFF"), "values have 32 bits"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_decode_refuses(name):
  data, message = REFUSED[name]
  with pytest.raises(ValueError, match=message) as e:
    apply("decode", data)
  assert str(e.value).startswith("decode: cannot decode an image of")
  assert "0x" not in str(e.value)  # no addresses of objects


@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_jpeg_is_refused_wherever_it_ends(progressive):
  data = encoded(smooth(60, 80), kind="JPEG", progressive=progressive)
  for end in (*range(2, len(data), 97), len(data) - 2):
    with pytest.raises(ValueError, match="cannot decode an image of"):
      apply("decode", data[:end])


def test_a_jpeg_with_a_harmless_fault_is_read():
  data = encoded(smooth(60, 80), kind="JPEG")
  wanted = apply("decode(precise=True)", data)
  for faulty in (data + b"more", data[:-2] + b"\0\0stray" + data[-2:]):
    out = apply("decode(precise=True)", faulty)
    np.testing.assert_array_equal(out, wanted)


@pytest.mark.filterwarnings("ignore")
def test_a_thousand_damaged_images_are_images_or_value_errors():
  random = np.random.default_rng(0)
  kinds = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "AVIF")
  files = [encoded(smooth(24, 32), kind=kind) for kind in kinds]
  files += [encoded(smooth(24, 32), "CMYK", "JPEG"), ppm16(GRAY)]
  files += [encoded(smooth(24, 32), kind="JPEG", progressive=True)] * 2
  files += [encoded(smooth(24, 32), kind="JPEG")] * 3
  failed = 0
  for _ in range(1000):
    data = bytearray(files[random.integers(len(files))])
    for _ in range(random.integers(1, 5)):
      data[random.integers(len(data))] = random.integers(256)
    if random.random() < 0.3:
      del data[random.integers(len(data)) :]
    try:
      out = apply("decode(exif=True)", bytes(data))
      assert out.dtype == np.uint8 and out.shape[2] == 3
    except ValueError as e:
      assert str(e).startswith("decode(exif=True): cannot decode an image of")
      failed += 1
  assert 200 < failed < 900


@pytest.mark.parametrize(
  "bad",
  [GRAY, NOISE[None], NOISE / 255, NOISE[..., :2], NOISE[:0], "a.jpg", None],
)
def test_an_array_that_is_no_u8_rgb_image_is_refused(bad):
  with pytest.raises(ValueError, match=r"bytes or u8\[height, width, 3\]"):
    apply("decode", bad)


def test_draw_box_draws_a_red_line_around_the_box():
  black = np.zeros((5, 9, 3), np.uint8)
  out = apply("draw_box('bbox')", black, bbox=[0.25, 0.5, 0.999, 1.0])
  wanted = [
    "         ",
    "    #####",
    "    #   #",
    "    #####",
    "         ",
  ]
  red = np.array([list(row) for row in wanted]) == "#"
  np.testing.assert_array_equal(out, red[..., None] * np.uint8([255, 0, 0]))
  assert not black.any()


def test_draw_box_leaves_out_sides_beyond_the_image():
  black = np.zeros((201, 201, 3), np.uint8)
  out = apply("draw_box('bbox')", black, bbox=[0.5, 0.5, 1.01, 1.01])
  rows, columns = np.nonzero(out[..., 0])
  assert set(zip(rows, columns)) == {(100, i) for i in range(100, 201)} | {
    (i, 100) for i in range(100, 201)
  }


@pytest.mark.parametrize(
  ("pixels", "box", "message"),
  [
    (NOISE, [0, 0, 2, 1], "as fractions of height and width"),
    (NOISE, [0, 0, 1], "four numbers"),
    ([NOISE, NOISE], [0, 0, 1, 1], "one image, but the example has 2"),
    (encoded(NOISE), [0, 0, 1, 1], 'put "decode |" before'),
  ],
)
def test_draw_box_refuses(pixels, box, message):
  with pytest.raises(ValueError, match=message):
    apply("draw_box('bbox')", pixels, bbox=box)


def test_an_annotation_of_the_image_turned_is_not_taken_for_its_own():
  exif = Image.Exif()
  exif[0x0112] = 6
  data = encoded(smooth(20, 30), kind="JPEG", exif=exif)
  stored, upright = dict(height=20, width=30), dict(height=30, width=20)
  assert apply("decode", data, **stored).shape == (20, 30, 3)
  assert apply("decode(exif=True)", data, **upright).shape == (30, 20, 3)
  for string, said, other in (
    ("decode", upright, "True"),
    ("decode(exif=True)", stored, "False"),
  ):
    with pytest.raises(
      ValueError, match=rf"annotation.*say decode\(exif={other}"
    ):
      apply(string, data, **said)
