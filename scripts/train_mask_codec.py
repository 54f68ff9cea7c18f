"""Makes pg/codecs/masks_nano.npz, the small mask codec of the embedded data.

  nice python -m scripts.train_mask_codec [--steps 700] [--out masks.npz]

The network of pg/codecs/masks.py with fewer channels, trained on the masks of
made_masks.py. It begins as an autoencoder; then the codebook starts at the
means of what the encoder makes, and follows it as a moving average, as in
"Neural Discrete Representation Learning" (arXiv:1711.00937, appendix A). A code
that is hardly used is moved to where the encoder is. Weights are stored as f16.

At the end it prints how much of unseen masks survives the way through 16 codes,
and how many masks a second encode and decode take.
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pg import command
from pg.codecs import mask_tensors, masks
from scripts import made_masks

WIDTHS = dict(a=4, b=8, c=16, d=32, D=32, e=32, f=32, g=16, h=8, i=4)
SEED, BATCH, NUM_MASKS = 0, 128, 24576
PLAIN = 0.2  # part of the steps without a codebook
LR, COMMIT, EMA = 3e-3, 0.25, 0.99
# Of the moving count of a code, of BATCH * 16 / 128 on average.
DEAD, REVIVED = 1.0, 4.0


def encoder(params, x):
  """Returns what is quantized, f32[B, 4, 4, D], of f32[B, 64, 64] in 0..1.

  Args:
    params: {name of mask_tensors.TENSORS: array}.
    x: the masks.
  """
  codec = masks.Codec(masks.matrices(params), None)
  return masks.encoder(codec, x[..., None] * 2 - 1)


def decoder(params, x):
  """Returns masks f32[B, 64, 64], about -1 to 1, of f32[B, 4, 4, D]."""
  return masks.decoder(masks.Codec(masks.matrices(params), None), x)


def init(rng):
  """Returns random weights and a book that is not used yet, {name: f32}."""
  params, book = {}, {}
  for name, letters in mask_tensors.TENSORS.items():
    shape = tuple(WIDTHS.get(n, n) for n in letters)
    if name.startswith("_vq_vae"):
      book[name] = np.zeros(shape, np.float32)
    elif name.endswith("bias"):
      params[name] = np.zeros(shape, np.float32)
    else:
      # A transposed convolution adds up a quarter of its kernel.
      up = letters[2] == 4 and name.startswith("decoder")
      num_in = shape[0] * 4 if up else np.prod(shape[1:])
      gain = 0.5 if ".net.4" in name else 2
      params[name] = rng.standard_normal(shape) * np.sqrt(gain / num_in)
  return jax.tree.map(jnp.float32, params), book


def nearest(book, x):
  """Returns the numbers i32[...] of the codes next to f32[..., D]."""
  codes = book["_vq_vae._embedding"]
  y = 2 * x @ codes.T
  norms = jnp.broadcast_to(jnp.square(codes).sum(1), y.shape)
  return jnp.argmin(norms - y, -1)


def loss(params, book, x, quantized):
  """Returns the mean squared error, and what was to be quantized."""
  z = encoder(params, x)
  commit, z_in = 0.0, z
  if quantized:
    near = book["_vq_vae._embedding"][nearest(book, z)]
    commit = jnp.square(z - near).mean()
    z_in = z + jax.lax.stop_gradient(near - z)
  error = jnp.square(decoder(params, z_in) - (2 * x - 1)).mean()
  return error + COMMIT * commit, (error, z.reshape(-1, z.shape[-1]))


@functools.partial(jax.jit, static_argnames=("tx", "quantized"))
def update(params, opt, book, x, key, *, tx, quantized):
  """Returns all of it after one step on u8[B, 64, 64], and the error."""
  x = x.astype(jnp.float32) / 255
  grads, (error, z) = jax.grad(loss, has_aux=True)(params, book, x, quantized)
  change, opt = tx.update(grads, opt)
  if quantized:
    book = follow(book, z, key)
  return optax.apply_updates(params, change), opt, book, error


def follow(book, z, key):
  """Moves codes to the means of what is nearest to them."""
  assigned = jax.nn.one_hot(nearest(book, z), masks.NUM_CODES)  # [vectors, 128]
  size = book["_vq_vae._ema_cluster_size"] * EMA + (1 - EMA) * assigned.sum(0)
  total = book["_vq_vae._ema_w"] * EMA + (1 - EMA) * assigned.T @ z
  dead = size < DEAD
  fresh = z[jax.random.choice(key, len(z), (masks.NUM_CODES,))]
  size = jnp.where(dead, REVIVED, size)
  total = jnp.where(dead[:, None], REVIVED * fresh, total)
  return _book(size, total)


def _book(size, total):
  return {
    "_vq_vae._embedding": total / size[:, None],
    "_vq_vae._ema_cluster_size": size,
    "_vq_vae._ema_w": total,
  }


def means(z, rng, rounds=12):
  """Returns a book of the k-means of f32[vectors, D]."""
  codes = z[rng.choice(len(z), masks.NUM_CODES, replace=False)]
  for _ in range(rounds):
    near = np.argmin(np.square(codes).sum(1) - 2 * z @ codes.T, 1)
    assigned = np.eye(masks.NUM_CODES, dtype=np.float32)[near]
    size = assigned.sum(0)[:, None]
    codes = np.where(size > 0, assigned.T @ z / np.maximum(size, 1), codes)
  size = np.full(masks.NUM_CODES, BATCH * 16 / masks.NUM_CODES, np.float32)
  return _book(size, codes * size[:, None])


def train(steps, data):
  """Returns the tensors {name: f16} after some steps on u8[masks, 64, 64]."""
  rng = np.random.default_rng(SEED)
  params, book = init(rng)
  warmup = min(50, steps // 2)
  schedule = optax.warmup_cosine_decay_schedule(0, LR, warmup, steps)
  tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
  opt, plain, start = tx.init(params), int(PLAIN * steps), time.process_time()
  for step in range(steps):
    x = _turned(rng, data[rng.integers(len(data), size=BATCH)])
    if step == plain:
      z = [encoder(params, data[i : i + 256] / 255) for i in (0, 256, 512, 768)]
      book = means(np.concatenate(z).reshape(-1, z[0].shape[-1]), rng)
    key = jax.random.key(step)
    params, opt, book, error = update(
      params, opt, book, x, key, tx=tx, quantized=step >= plain
    )
    if step % 100 == 99:
      seconds = time.process_time() - start
      print(f"step {step + 1} error {error:.4f} CPU {seconds:.0f} s")
  tensors = {**params, **book}
  return {
    name: np.asarray(tensors[name], np.float16) for name in mask_tensors.TENSORS
  }


def _turned(rng, x):
  """Returns a batch in one of the eight ways to lay a square down."""
  x = np.rot90(x, rng.integers(4), axes=(1, 2))
  return np.ascontiguousarray(x[:, :: rng.choice([1, -1])])


def round_trip(codec, pairs):
  """Returns the intersections over unions of (mask, box) after 16 codes."""
  codes = masks.quantize(codec, np.stack([masks.crop(*p) for p in pairs]))
  scores = []
  for (mask, box), decoded in zip(pairs, masks.decode(codec, codes)):
    again = masks.paste(decoded, box, *mask.shape)
    scores.append((again & mask).sum() / (again | mask).sum())
  return np.array(scores)


def bench(codec):
  """Returns a line with the masks a second that one process does."""
  x = np.zeros((256, masks.SIDE, masks.SIDE), np.float32)
  codes = np.zeros((256, masks.GRID**2), int)
  rates = []
  for function, value in ((masks.quantize, x), (masks.decode, codes)):
    start = time.process_time()
    function(codec, value)
    rates.append(len(value) / (time.process_time() - start))
  return "encode {:.0f}, decode {:.0f} masks per second of CPU".format(*rates)


def main():
  parser = command.Parser(description=__doc__.split("\n")[0])
  parser.add_argument("--steps", type=int, default=700)
  parser.add_argument("--out", default=masks.NANO)
  args = parser.parse_args()
  tensors = train(args.steps, made_masks.crops(NUM_MASKS, SEED))
  np.savez(args.out, **tensors)
  codec = masks.load(args.out)
  scores = round_trip(codec, made_masks.pairs(500, SEED + 1))
  print(f"mIoU of {len(scores)} unseen masks {scores.mean():.3f}")
  print(bench(codec))


if __name__ == "__main__":
  main()
