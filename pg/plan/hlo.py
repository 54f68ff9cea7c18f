"""What a compiled program moves, read from its text (HLO).

A compiler's own analysis counts the body of a loop once, and XLA's for GPUs
says nothing. Here a loop counts as often as its condition says; of one that
depends on data (the vocabulary loss: as often as the longest answer needs) the
caller says how often.
"""

import collections
import math
import re
from typing import NamedTuple

COLLECTIVES = (
  "all-gather",
  "all-reduce",
  "reduce-scatter",
  "all-to-all",
  "collective-permute",
)
_SIZES = dict(pred=1, s8=1, u8=1, s16=2, u16=2, bf16=2, f16=2, s64=8, u64=8)
_SIZES |= dict(s4=0.5, u4=0.5, f64=8, f32=4, s32=4, u32=4, f8e4m3fn=1, f8e5m2=1)
_LINE = re.compile(r"\s+(ROOT )?%?([\w.-]+) = ")
_CALLED = re.compile(r"(?:body|calls|to_apply)=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](?:\{[^}]*\})?")
# A memory of a TPU other than its HBM.
_NEAR = re.compile(r"S\([1-9]\)")
# What reads no memory: it names a value, or waits for one.
_NAMES = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast")
_PARTS = ("slice", "dynamic-slice", "gather")
_COPIES = ("copy", "transpose", "concatenate", "convert", "slice", "gather")


class Instruction(NamedTuple):
  """A line of a computation."""

  name: str
  type: str  # "bf16[8,256]{1,0}", or several in parentheses
  opcode: str
  operands: tuple  # names
  rest: str  # what stands after the operands
  root: bool


def parse(text):
  """Returns {computation: [Instruction]}; that of the entry is ""."""
  module, lines = {}, []
  for line in text.splitlines():
    if line.endswith("{") and not line.startswith((" ", "HloModule")):
      name = line.split()[0].removeprefix("%")
      lines = module.setdefault("" if name == "ENTRY" else name, [])
    elif match := _LINE.match(line):
      found = _instruction(line[match.end() :], match[2], bool(match[1]))
      # How a TPU's compiler writes a reduce-scatter.
      if name.startswith("all-reduce-scatter") and found.opcode == "all-reduce":
        found = found._replace(opcode="reduce-scatter")
      lines.append(found)
  return module


def _instruction(text, name, root):
  kind, text = _until_closed(text) if text[0] == "(" else text.split(" ", 1)
  opcode, _, text = text.strip().partition("(")
  operands, rest = _until_closed("(" + text)
  names = re.findall(r"%([\w.-]+)", operands)
  # A constant's or parameter's number stays.
  rest = rest if names else operands + rest
  return Instruction(name, kind, opcode, tuple(names), rest, root)


def _until_closed(text):
  depth = 0
  for i, letter in enumerate(text):
    depth += (letter == "(") - (letter == ")")
    if not depth:
      return text[: i + 1], text[i + 1 :]
  return text, ""


def num_bytes(kind, *, far=False):
  """Returns the bytes of a type; `far`: only of what is in main memory."""
  return sum(
    math.prod(map(int, filter(None, x[2].split(",")))) * _SIZES.get(x[1], 4)
    for x in _ARRAY.finditer(kind)
    if not (far and _NEAR.search(x[0]))
  )


def trips(module, loop):
  """Returns how often a while instruction runs its body, None if data say."""
  known = re.search(r'known_trip_count":\{"n":"(\d+)"', loop.rest)
  if known:
    return int(known[1])
  name = re.search(r"condition=%?([\w.-]+)", loop.rest)[1]
  lines = {x.name: x for x in module[name]}
  (root,) = (x for x in module[name] if x.root)
  limits = [
    int(lines[x].rest.strip("(").split(")")[0])
    for x in root.operands
    if x in lines and lines[x].opcode == "constant"
  ]
  return limits[0] if limits else None


def executed(module, by_data=1, name="", times=1, caller=""):
  """Yields (Instruction, times, computation) of all that a program runs.

  Args:
    module: of `parse`.
    by_data: how often a loop runs of which data say how often.
    name, times, caller: where to begin; a fusion's instructions have the
      computation that it is in.
  """
  for line in module[name]:
    yield line, times, caller
    inner = re.findall(_CALLED, line.rest)
    if found := _BRANCHES.search(line.rest):
      inner += re.findall(r"[\w.-]+", found[1])
    often = times
    if line.opcode == "while":
      often *= trips(module, line) or by_data
    for called in filter(module.__contains__, inner):
      within = caller if line.opcode == "fusion" else called
      yield from executed(module, by_data, called, often, within)


def collectives(module, by_data=1, name=""):
  """Returns {kind: (how many, bytes)} of the collectives on a device.

  Bytes are what a reduce-scatter begins with, and what others end with. `name`
  is a computation, by default all of the program.
  """
  types = {x.name: x.type for lines in module.values() for x in lines}
  found, seen = collections.defaultdict(lambda: (0, 0)), set()
  for line, times, caller in executed(module, by_data, name):
    kind = line.opcode.removesuffix("-start")
    if kind not in COLLECTIVES:
      continue
    # A TPU's is in both of the fusions that begin and end it.
    channel = re.search(r"channel_id=(\d+)", line.rest)
    if channel and all(line is not other for other in module[caller]):
      key = (caller, channel[1])
      if key in seen:
        continue
      seen.add(key)
    given = sum(num_bytes(types[x]) for x in line.operands)
    size = num_bytes(line.type)
    if kind == "reduce-scatter":
      size = given
    elif line.opcode != kind:  # the type of a start has its operands, too
      size = size - given if kind == "all-gather" else given
    number, total = found[kind]
    found[kind] = number + times, total + size * times
  return dict(found)


def bytes_read(module, name, by_data=1):
  """Returns the bytes that one run of a computation reads from main memory.

  That is the operands of its instructions: of a slice or a gather what it
  takes, nothing of an array that is only written into, and on a TPU nothing of
  what is in the memory beside its units already.
  """
  lines, total = {x.name: x for x in module[name]}, 0
  for line in module[name]:
    if line.opcode == "while":
      (body,) = re.findall(r"body=%?([\w.-]+)", line.rest)
      often = trips(module, line) or by_data
      total += often * bytes_read(module, body, by_data)
    elif line.opcode in ("call", "async-start"):
      total += sum(
        bytes_read(module, x, by_data) for x in _CALLED.findall(line.rest)
      )
    elif line.opcode not in _NAMES and not line.opcode.endswith("-done"):
      if "ConcatBitcast" not in line.rest:
        for place, operand in enumerate(line.operands):
          total += _read(module, line, place, lines.get(operand))
  return total


def copies(module, name, least=1 << 20):
  """Returns what a computation copies in memory: texts "copy bf16[8,256]".

  Args:
    module: of `parse`.
    name: of the computation.
    least: int, bytes from which on a copy is of interest.
  """
  found = []
  for line in module[name]:
    opcode = line.opcode
    if opcode == "fusion":  # it copies where that is the last it does
      (called,) = _CALLED.findall(line.rest)
      (opcode,) = (x.opcode for x in module[called] if x.root)
    elif opcode == "call":
      (called,) = _CALLED.findall(line.rest)
      found += copies(module, called, least)
    if opcode in _COPIES and num_bytes(line.type) >= least:
      found.append(f"{opcode} {line.type.partition('{')[0]}")
  return found


def _read(module, line, place, operand):
  """Returns the bytes that an instruction reads of one of its operands."""
  whole = num_bytes(operand.type, far=True) if operand else 0
  if line.opcode == "fusion":
    (name,) = _CALLED.findall(line.rest)
    return min(whole, _used(module, name, place))
  if line.opcode == "slice-start":
    *_, taken, _ = _ARRAY.finditer(line.type)  # and a flag
    return min(whole, num_bytes(taken[0]))
  if line.opcode in _PARTS and place == 0:
    return min(whole, num_bytes(line.type))
  if line.opcode == "dynamic-update-slice" and place == 0:
    return 0
  return whole


def _used(module, name, place):
  """Returns the bytes that a fused computation uses of a parameter."""
  users = _users(module, name)
  (parameter,) = (
    x
    for x in module[name]
    if x.opcode == "parameter" and x.rest.startswith(f"({place})")
  )
  total, waiting = 0, [parameter]
  while waiting:
    value = waiting.pop()
    for line in users[value.name]:
      first = line.operands[0] == value.name
      if line.opcode == "bitcast":
        waiting.append(line)
      elif line.opcode in _PARTS and first:
        total += num_bytes(line.type)
      elif line.opcode != "dynamic-update-slice" or not first:
        return math.inf
  return total


def _users(module, name):
  users = collections.defaultdict(list)
  for line in module[name]:
    for operand in line.operands:
      users[operand].append(line)
  return users


def main_loop(module):
  """Returns the name of the loop body that reads most."""
  bodies = {
    re.search(r"body=%?([\w.-]+)", line.rest)[1]
    for line, *_ in executed(module)
    if line.opcode == "while"
  }
  return max(bodies, key=lambda name: bytes_read(module, name))
