"""Floating-point operations of the model, counted from its sizes.

A product of [m, k] and [k, n] is 2mkn operations; nothing else is counted, as
is usual for MFU. A compiler's own count is no help: it counts the body of a
scan once.

Dimensions: I image tokens, L text tokens, T = M * I + L positions, D width,
F mlp width, N query heads, K key/value heads, H head dim, V vocabulary.
"""

from typing import NamedTuple


class Flops(NamedTuple):
  """Operations of one example, by part; floats."""

  image: float  # products of the tower and projector with parameters
  image_attention: float  # queries with keys, probabilities with values
  decoder: float  # the same of its layers
  attention: float  # as `image_attention`
  head: float  # the vocabulary's

  @property
  def total(self):
    return sum(self)


def per_example(
  cfg, num_text, *, num_images=1, num_targets=None, has_tower=True
):
  """Counts one pass forward.

  Args:
    cfg: paligemma.Config.
    num_text: int, L.
    num_images: int, M.
    num_targets: int or None, text positions whose logits are computed; None is
      all of them, by which published MFU goes.
    has_tower: bool; False is of features, to which it has been applied.

  Returns:
    Flops.
  """
  img, llm = cfg.img, cfg.llm
  I, D, F = img.num_tokens, img.width, img.mlp_dim
  patches, projector = 3 * img.patch**2 * D, D * llm.width
  weights = img.depth * (4 * D * D + 2 * D * F) + patches + projector
  image = 2 * I * (weights if has_tower else projector)
  image_attention = img.depth * 4 * I * I * D * has_tower
  D, F, H = llm.width, llm.mlp_dim, llm.head_dim
  T, N, K = num_images * I + num_text, llm.num_heads, llm.num_kv_heads
  weights = llm.depth * (2 * (N + K) * H * D + 3 * D * F)
  targets = num_text if num_targets is None else num_targets
  return Flops(
    float(num_images * image),
    float(num_images * image_attention),
    float(2 * T * weights),
    float(llm.depth * 4 * T * T * N * H),
    float(2 * targets * D * llm.vocab_size),
  )


def training(forward, frozen=(), lora=None):
  """Counts a step without recomputation: that of "MFU".

  Args:
    forward: Flops of `per_example`.
    frozen: names of frozen towers, of "img" and "llm": no gradients of their
      parameters; the gradient still passes through "llm" to reach "img".
    lora: lora.Config or None; gradients pass through towers with adapters,
      whose own products, some percent, are not counted.

  Returns:
    Flops, each part 1 to 3 times that of `forward`.
  """
  adapted = lora.towers if lora else ()
  weights = {tower: tower not in frozen for tower in ("img", "llm")}
  to_image = weights["img"] or "img" in adapted
  through = to_image or weights["llm"] or "llm" in adapted
  image, decoder = 1 + to_image + weights["img"], 1 + through + weights["llm"]
  factors = image, 1 + 2 * to_image, decoder, 1 + 2 * through, decoder
  return Flops(*(n * x for n, x in zip(factors, forward, strict=True)))


def recomputed(cfg, num_text, *, num_images=1):
  """Counts what the remat policy of a model computes a second time.

  Args:
    cfg, num_text, num_images: as for `per_example`.

  Returns:
    Flops; those of a step are the sum with `training`. The loss forms its
    gradients with the logits: the head is never repeated.
  """
  if cfg.remat == "everything":
    return Flops(0.0, 0.0, 0.0, 0.0, 0.0)
  again = per_example(cfg, num_text, num_images=num_images, num_targets=0)
  if cfg.remat == "dots":
    return again._replace(image=0.0, decoder=0.0)
  # Of each layer all but its last product, whose result no gradient needs
  # unless a norm follows; what comes before and after the layers is kept.
  img, llm = cfg.img, cfg.llm
  mlp = 0 if cfg.remat == "ffw" else 1
  image = img.depth * (4 * img.width**2 + mlp * img.width * img.mlp_dim)
  heads = 2 * (llm.num_heads + llm.num_kv_heads) * llm.head_dim
  mlp = 2 * mlp + llm.post_norms
  if cfg.remat == "rows" and llm.post_norms:  # the first two for either
    mlp += 2
  mlp *= llm.mlp_dim
  decoder = llm.depth * llm.width * (heads + mlp)
  images = num_images * img.num_tokens
  if cfg.remat in ("attn_out", "ffw"):  # but not probabilities with values
    half = again.image_attention / 2, again.attention / 2
    again = again._replace(image_attention=half[0], attention=half[1])
  return again._replace(
    image=2.0 * images * image, decoder=2.0 * (images + num_text) * decoder
  )
