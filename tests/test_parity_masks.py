"""The mask codec equals PyTorch's layers; masks equal those of pycocotools.

Needs requirements-parity.txt; run it with `pytest -m parity`.
"""

import json

import numpy as np
import pytest

from pg.codecs import masks
from pg.pp import masks as mask_ops
from scripts import made_masks
from tests.support import coco_free

torch = pytest.importorskip("torch")
coco_mask = pytest.importorskip("pycocotools.mask")

pytestmark = pytest.mark.parity
RELEASED = dict(a=16, b=32, c=64, d=128, D=512, e=128, f=128, g=64, h=32, i=16)
ODD = dict(a=3, b=5, c=4, d=6, D=7, e=9, f=8, g=5, h=2, i=3)


class Block(torch.nn.Module):
  def __init__(self, width):
    super().__init__()
    self.net = torch.nn.Sequential(
      torch.nn.Conv2d(width, width, 3, padding=1),
      torch.nn.ReLU(),
      torch.nn.Conv2d(width, width, 3, padding=1),
      torch.nn.ReLU(),
      torch.nn.Conv2d(width, width, 1),
    )

  def forward(self, x):
    return x + self.net(x)


class Network(torch.nn.Module):
  """The layers that the names in the file are of."""

  def __init__(self, a, b, c, d, D, e, f, g, h, i):  # noqa: N803
    super().__init__()
    relu = torch.nn.ReLU
    down = lambda *sizes: torch.nn.Conv2d(*sizes, 4, stride=2, padding=1)
    up = lambda *sizes: torch.nn.ConvTranspose2d(*sizes, 4, stride=2, padding=1)
    layers = []
    for sizes in ((1, a), (a, b), (b, c), (c, d)):
      layers += [down(*sizes), relu()]
    layers += [Block(d), Block(d), torch.nn.Conv2d(d, D, 1)]
    self.encoder = torch.nn.Sequential(*layers)
    layers = [torch.nn.Conv2d(D, e, 1), relu(), Block(e), Block(e)]
    for sizes in ((e, f), (f, g), (g, h), (h, i)):
      layers += [up(*sizes), relu()]
    layers += [torch.nn.Conv2d(i, 1, 1)]
    self.decoder = torch.nn.Sequential(*layers)


def tensors_of(network, depth):
  """Returns the network's weights as a file has them, and random codes."""
  tensors = {k: v.detach().numpy() for k, v in network.state_dict().items()}
  draw = lambda *shape: np.random.default_rng(0).normal(size=shape) / 10
  tensors["_vq_vae._embedding"] = draw(128, depth).astype(np.float32)
  tensors["_vq_vae._ema_cluster_size"] = np.ones(128, np.float32)
  tensors["_vq_vae._ema_w"] = tensors["_vq_vae._embedding"]
  return tensors


@pytest.mark.parametrize("widths", [RELEASED, ODD])
def test_encoder_and_decoder_equal_those_of_torch(widths):
  torch.manual_seed(0)
  network = Network(**widths)
  codec = masks.build(tensors_of(network, widths["D"]))
  rng = np.random.default_rng(0)
  crops = rng.random((5, 64, 64), np.float32)
  codes = rng.integers(128, size=(5, 16))
  with torch.no_grad():
    x = torch.from_numpy(crops[:, None] * 2 - 1)
    z = network.encoder(x).numpy().transpose(0, 2, 3, 1)
    near = torch.from_numpy(codec.codebook[codes])  # [B, 16, D]
    near = near.transpose(1, 2).reshape(5, -1, 4, 4)
    decoded = network.decoder(near)[:, 0].numpy()
  np.testing.assert_allclose(masks.features(codec, crops), z, atol=1e-5)
  np.testing.assert_allclose(masks.decode(codec, codes), decoded, atol=1e-5)
  away = np.square(z.reshape(5, 16, 1, -1) - codec.codebook).sum(-1)
  np.testing.assert_array_equal(masks.quantize(codec, crops), away.argmin(-1))


def test_run_lengths_are_unpacked_as_by_pycocotools():
  for seed in range(100):
    rng = np.random.default_rng(seed)
    mask = made_masks.draw(rng)
    if seed % 2:
      mask = mask[:, : rng.integers(1, mask.shape[1])] ^ (rng.random() < 0.5)
    packed = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    np.testing.assert_array_equal(mask_ops.run_lengths(packed), mask)


def test_polygons_of_photos_are_filled_nearly_as_by_pycocotools():
  data = json.loads(coco_free.read("instances_train.json"))
  sizes = {i["id"]: (i["height"], i["width"]) for i in data["images"]}
  differing, pixels = 0, 0
  for a in data["annotations"]:
    if isinstance(a["segmentation"], list):
      size = sizes[a["image_id"]]
      ours = mask_ops.polygons(a["segmentation"], *size)
      packed = coco_mask.frPyObjects(a["segmentation"], *size)
      theirs = coco_mask.decode(coco_mask.merge(packed)) == 1
      differing += (ours ^ theirs).sum()
      pixels += theirs.sum()
  # It moves borders to a grid of a fifth of a pixel.
  assert 0 < differing / pixels < 0.003
