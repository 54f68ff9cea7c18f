"""CRC-32C (Castagnoli), the checksum of TFRecord files, in numpy.

A checksum is linear: that of a whole is the exclusive or of those of its bytes,
each followed by as many zeros as there are bytes after it. So blocks of bytes
are looked up all at once, one table per place in the block, and then joined in
pairs. About 300 MB/s on one core, where a loop over bytes does 5.
"""

import functools

import numpy as np

_BLOCK = 256  # bytes whose tables fit into a fast cache
_SLAB = 256  # blocks at a time, likewise
# What brings an empty register to all ones, which is where a checksum starts.
# Zeros before it change nothing: so every length can be padded to blocks.
_START = bytes.fromhex("54641f64")
_POLYNOMIAL = np.uint32(0x82F63B78)  # bits reversed


def crc32c(data):
  """Returns the checksum of bytes, an int."""
  size = len(_START) + len(data)
  padded = np.zeros(-(-size // _BLOCK) * _BLOCK, np.uint8)
  padded[-size:] = np.frombuffer(_START + data, np.uint8)
  blocks = padded.reshape(-1, _BLOCK)
  sums = [_sum(blocks[i : i + _SLAB]) for i in range(0, len(blocks), _SLAB)]
  sums, level = np.concatenate(sums), 0
  while len(sums) > 1:
    if len(sums) % 2:
      sums = np.append(np.uint32(0), sums)
    sums = _follow(sums[::2], _zeros(level)) ^ sums[1::2]
    level += 1
  return int(~sums[0])


def crc32c_rows(rows):
  """Returns the checksums u32[N] of the rows of u8[N, M], M up to 252."""
  start = np.frombuffer(_START, np.uint8)
  start = np.broadcast_to(start, (len(rows), len(start)))
  return ~_sum(np.concatenate([start, rows], axis=1))


def _sum(blocks):
  """Returns u32[N] of u8[N, M], with an empty register before and after."""
  table, places = _tables()
  skipped = _BLOCK - blocks.shape[1]
  return np.bitwise_xor.reduce(table.take(blocks + places[skipped:]), axis=1)


@functools.cache
def _tables():
  """Returns what each byte at each place of a block adds, and their offsets."""
  byte = np.arange(256, dtype=np.uint32)
  for _ in range(8):
    byte = np.where(byte & 1, (byte >> 1) ^ _POLYNOMIAL, byte >> 1)
  tables = [byte.astype(np.uint32)]
  while len(tables) < _BLOCK:
    tables.append(_shift(tables[-1], tables[0]))
  places = np.arange(_BLOCK, dtype=np.int32) * 256
  return np.concatenate(tables[::-1]), places


def _shift(sums, byte):
  """Returns the sums after one more zero byte."""
  return byte[sums & 255] ^ (sums >> 8)


@functools.cache
def _zeros(level):
  """Returns u32[4, 256]: what each byte of a sum becomes after 2**level blocks
  of zeros."""
  if level:
    return _follow(_zeros(level - 1), _zeros(level - 1))
  byte = _tables()[0][-256:]
  sums = np.arange(256, dtype=np.uint32) << 8 * np.arange(4)[:, None]
  for _ in range(_BLOCK):
    sums = _shift(sums.astype(np.uint32), byte)
  return sums


def _follow(sums, zeros):
  """Returns the sums after the zeros that the table is for."""
  pieces = [zeros[i][(sums >> 8 * i) & 255] for i in range(4)]
  return np.bitwise_xor.reduce(pieces)
