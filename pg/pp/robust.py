"""Ops of pre-training that make a model robust to how images are processed.

PaliGemma was trained with a random way to resize and with random JPEG
compression, so that it works with decoders and resizers it has not seen (paper,
section 3.2; google-research/big_vision `pp/proj/paligemma/robustness.py`):

  decode | inception_crop(95) | random_resize(224) | random_jpeg(0.5)

The probability of the compression and how slight the crop is are not published.
"""

import io

from PIL import Image

from pg import pp
from pg.pp import image as image_ops
from pg.pp import resize as resize_ops


@pp.op
def random_resize(example, size: int, *, rng):
  """Resizes the image to a square in one of ten ways: 5 methods x antialias.

  Several images are resized alike.
  """
  resize_ops.check_size(size)
  method = resize_ops.METHODS[rng.integers(len(resize_ops.METHODS))]
  antialias = bool(rng.integers(2))
  function = lambda image: resize_ops.stretch(
    image, (size, size), method, antialias=antialias
  )
  return {"image": image_ops.each(pp.get(example, "image"), function)}


@pp.op
def random_jpeg(example, p: int | float, *, rng):
  """Compresses the image as JPEG and decodes it, with probability `p`.

  With a quality of 75 to 95, and in half of the cases with the fast DCT (see
  image.py). Several images alike.
  """
  if not 0 <= p <= 1:
    raise ValueError(f"p should be a probability, 0 to 1, got {p}")
  images = image_ops.each(pp.get(example, "image"), image_ops.checked)
  if rng.random() >= p:
    return {}
  quality, precise = int(rng.integers(75, 96)), bool(rng.integers(2))
  function = lambda image: jpeg(image, quality, precise=precise)
  return {"image": image_ops.each(images, function)}


def jpeg(image, quality, *, precise):
  """Returns u8[height, width, 3] as it comes out of a JPEG file.

  Args:
    image: u8[height, width, 3].
    quality: 1 to 100; colours have half the resolution, as in TensorFlow.
    precise: decode with the accurate DCT.
  """
  out = io.BytesIO()
  Image.fromarray(image).save(out, "JPEG", quality=quality, subsampling=2)
  return image_ops.to_rgb(out.getvalue(), precise=precise)
