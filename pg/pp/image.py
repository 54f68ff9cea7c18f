"""Image files and arrays -> u8[height, width, 3].

All image ops take one image or a list of several under the key "image". What
decoding makes of every kind of file, with the reader big_vision has:

  gray, gray + alpha     repeated to three channels, alpha dropped
  RGBA, palette          colours as stored, transparency dropped
  16 bits per channel    the high byte
  CMYK                   (255 - c) * (255 - k) / 255 and so on, no profile
  animated               the first frame
  turned by EXIF         as stored; decode(exif=True) turns it upright, and
                         Pillow a TIFF anyway
  32-bit integer, float  refused, for its range is not known
  over input.max_pixels  refused before it is decoded, by its header
  truncated, damaged     refused

JPEG is decoded by simplejpeg, three times as fast as Pillow, with the fast
integer DCT: what big_vision's `decode` does and what the released models were
trained on, bit for bit. `decode(precise=True)` uses the accurate DCT, which is
bit for bit what Pillow gives (and Hugging Face transformers and big_vision's
`decode(precise=True)`). For the rare JPEG that only Pillow reads both are the
accurate one: on a photo it differs from the fast one by about 1 level on
average and 17 at most.
"""

import contextlib
import io

import numpy as np
import simplejpeg
from PIL import Image

from pg import limits, pp

# What photos come in. Pillow knows more, some of which start other programs.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
FORMATS += ("JPEG2000",)

_ORIENTATION, _SIDEWAYS = 0x0112, (5, 6, 7, 8)  # the EXIF tag, some values
# Of a progressive JPEG, each of which decodes all pixels once more.
_MAX_SCANS = 500
_UPRIGHT = {
  2: lambda x: x[:, ::-1],
  3: lambda x: x[::-1, ::-1],
  4: lambda x: x[::-1],
  5: lambda x: x.swapaxes(0, 1),
  6: lambda x: np.rot90(x, -1),
  7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
  8: np.rot90,
}


class Undecodable(ValueError):
  """Bytes that are no image, or one that is refused."""


@pp.op
def decode(example, precise: bool = False, exif: bool = False):
  """Decodes the image to RGB; one that is already an array stays as it is.

  See the top of this file for what becomes of each kind of image.

  Args:
    example: dict with "image", bytes of a file or u8[height, width, 3].
    precise: JPEG with the accurate DCT, as Pillow does.
    exif: turn the image upright as its EXIF data say. Boxes stay as they are:
      most annotations are of the image as one sees it, so say True for them.

  Raises:
    ValueError: not an image that can be decoded, see there; or the "height" and
      "width" of its annotation are those of the image turned.
  """
  convert = lambda image: to_rgb(image, precise=precise, exif=exif)
  images = each(pp.get(example, "image"), convert)
  said = example.get("height"), example.get("width")
  if isinstance(images, np.ndarray) and said[0] != said[1]:
    if said == images.shape[1::-1]:
      raise ValueError(
        f"the image is {images.shape[:2]} pixels high and wide and its"
        f" annotation says {said}: its boxes are of the image turned by EXIF;"
        f" say decode(exif={not exif})"
      )
  return {"image": images}


def to_rgb(image, *, precise=False, exif=False):
  """Returns an encoded image (or an array as it is) as u8[height, width, 3].

  Args:
    image: bytes of an image file, or u8[height, width, 3].
    precise: JPEG with the accurate DCT.
    exif: turn it upright.

  Raises:
    Undecodable: not an image, or one that is refused (see above).
  """
  if not isinstance(image, bytes):
    return checked(image)
  try:
    pixels = _jpeg(image, precise)
    if pixels is None:
      pixels = _pillow(image)
    return _upright(pixels, image) if exif else pixels
  except Exception as e:  # Pillow's readers raise nearly anything on bad files.
    raise Undecodable(
      f"cannot decode an image of {len(image)} bytes: {e}"
    ) from None


def each(images, function):
  """Applies `function` to one image or to each of a list of several."""
  if isinstance(images, list):
    return [function(image) for image in images]
  return function(images)


def one(example):
  """Returns the only image of an example, u8[height, width, 3].

  Raises:
    ValueError: none or several, or not decoded.
  """
  image = pp.get(example, "image")
  if isinstance(image, list):
    raise ValueError(
      f"boxes belong to one image, but the example has {len(image)}"
    )
  return checked(image)


def checked(image):
  """Returns `image` if it is u8[height, width, 3], else raises ValueError."""
  if isinstance(image, bytes):
    raise ValueError('the image is not decoded; put "decode |" before this op')
  if not (
    isinstance(image, np.ndarray)
    and image.dtype == np.uint8
    and image.ndim == 3
    and image.shape[-1] == 3
    and image.size
  ):
    what = type(image).__name__
    if isinstance(image, np.ndarray):
      what = f"{image.dtype}{list(image.shape)}"
    raise ValueError(
      f"an image should be bytes or u8[height, width, 3], but is {what}"
    )
  return image


def _jpeg(data, precise):
  """Returns the pixels of a JPEG, or None for what Pillow is to look at."""
  if not data.startswith(b"\xff\xd8"):
    return None
  if data.count(b"\xff\xda") > _MAX_SCANS:
    raise ValueError(f"it has more than {_MAX_SCANS} scans")
  try:
    height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    check_size(height, width)
    if colours not in ("CMYK", "YCCK"):
      return simplejpeg.decode_jpeg(data, "RGB", fastdct=not precise)
  # It also objects to what does no harm, such as bytes between two segments.
  except ValueError:
    pass
  return None


def _pillow(data):
  """Returns the pixels of an image file by Pillow."""
  with opening(data) as opened:
    return pixels(opened)


def pixels(image):
  """Returns the pixels of a PIL image as u8[height, width, 3].

  Raises:
    ValueError: its values have 32 bits.
  """
  mode = image.mode
  if mode.startswith("I;16") or (mode == "I" and image.format == "PPM"):
    # Pillow would clip these to 255, so that nearly all of it is white.
    high = (np.array(image) >> 8).astype(np.uint8)
    return np.repeat(high[..., None], 3, axis=-1)
  if mode in ("I", "F"):
    raise ValueError("its values have 32 bits; save it with 8 or 16 bits")
  return np.array(image if mode == "RGB" else image.convert("RGB"))


@contextlib.contextmanager
def opening(data):
  """Opens an encoded image with Pillow: its header is read, not its pixels.

  Raises:
    ValueError, Pillow's: it is no image, or has too many pixels.
  """
  # Pillow has a limit, too, and this one may be above it.
  most = limits.current().max_pixels
  Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, most)
  try:
    opened = Image.open(io.BytesIO(data), formats=FORMATS)
  except Image.UnidentifiedImageError as e:
    raise ValueError(f"it is none of {', '.join(FORMATS)}") from e
  except Image.DecompressionBombError as e:
    raise limits.Exceeded(f"{e} input.max_pixels = {most:,}") from e
  with opened:
    check_size(opened.height, opened.width)
    yield opened


def check_size(height, width):
  """Raises Exceeded for an image that has more pixels than it may."""
  most = limits.current().max_pixels
  if height * width > most:
    raise limits.Exceeded(
      f"{height} x {width} are more than input.max_pixels = {most:,}; make it"
      " smaller, or raise that"
    )


def sizes(data):
  """Returns height and width as stored, and as one sees the image (EXIF).

  Raises:
    ValueError: it is no image, or has too many pixels.
  """
  try:
    with opening(data) as opened:
      # Not the PNG reader's own, which decodes all of the image.
      orientation = Image.Image.getexif(opened).get(_ORIENTATION)
      size = opened.height, opened.width
      # Pillow turns a TIFF itself.
      turned = orientation in _SIDEWAYS and opened.format != "TIFF"
      return size, size[::-1] if turned else size
  except Exception as e:  # Pillow's readers raise nearly anything on bad files
    raise ValueError(f"no image that can be read: {e}") from e


def orientation(data):
  """Returns how EXIF says that a file has its pixels: 2 to 8; 1 is upright."""
  with opening(data) as opened:
    found = opened.getexif().get(_ORIENTATION)
    # Pillow turns a TIFF itself.
    return found if found in _UPRIGHT and opened.format != "TIFF" else 1


def _upright(pixels, data):
  turn = _UPRIGHT.get(orientation(data), lambda x: x)
  return np.ascontiguousarray(turn(pixels))
