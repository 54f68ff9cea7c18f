"""The model: SigLIP, Gemma, and PaliGemma, which joins them.

The letters of dimensions, one meaning each in all of pg; what has no letter
here (layers, beams, boxes, height, width) is a word:

  B  batch                T  query positions       N  query heads
  M  images per example   S  key positions         K  key/value heads
  R  pixels per side      D  width                 G  N / K
  I  image tokens         F  mlp width             H  head dim
  L  text tokens          V  vocabulary            A  tokens of an answer
"""
