"""Constraints on answers: finite automata over tokens, in the compiled loop.

    constraint.objects(tok, labels=["cat"])   # "<loc0012>... cat ; ..."
    constraint.one_of(tok, ["yes", "no"])
    constraint.regex(tok, "[0-9]+")

An automaton allows, at each of its nodes, some tokens, and says which node
comes after each. Tokens that are alike at every node are one class, so that its
table is small whatever the vocabulary. An answer that is cut at its longest
length may be the beginning of an allowed one.

Dimensions: B batch, n answers, V vocabulary.
"""

import functools
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pg.codecs import tokenizer

NEVER = -1  # in a table: this class is not allowed here
MAX_ENTRIES = 1 << 24  # of a table, 64 MB


class Automaton(NamedTuple):
  """Which tokens may come at each node, and the node after each."""

  classes: jax.Array  # i32[V], of tokens
  table: jax.Array  # i32[nodes, classes], the next node or NEVER
  start: jax.Array  # i32[B], each row's first node; or i32[1] for all

  def allowed(self, node):
    """Returns bool[B, n, V] for nodes i32[B, n]."""
    return jnp.take(self.table[node] != NEVER, self.classes, axis=-1)

  def next(self, node, token):
    """Returns the nodes i32[B, n] after tokens; an answer that ended stays."""
    after = self.table[node, self.classes[token]]
    return jnp.where(after == NEVER, node, after)


def after(automaton, tokens):
  """Returns the automaton of one row where some tokens have been written.

  Raises:
    ValueError: they are not allowed.
  """
  (node,) = automaton.start
  for token in tokens:
    node = automaton.table[node, automaton.classes[token]]
    if node == NEVER:
      raise ValueError("the given start of the answer is not allowed by it")
  return automaton._replace(start=np.array([node], np.int32))


def objects(tok, *, labels=None, masks=False, max_objects=None):
  """Allows "<loc....>x4 label", any number of them separated by " ; ".

  Args:
    tok: Tokenizer.
    labels: list of str, the names of objects; None is any text.
    masks: bool, whether each object has 16 codes after its locations.
    max_objects: int or None, the most of them; 0 objects are always allowed.

  Returns:
    Automaton.

  Raises:
    ValueError: no labels, one that is empty or contains what it may not, or
      fewer than one object.
  """
  if max_objects is not None and max_objects < 1:
    raise ValueError(f"max_objects is {max_objects}; wanted 1 or more, or None")
  names = ["x"] if labels is None else list(labels)
  if not names or any(not x.strip() or set(";<\n") & set(x) for x in names):
    raise ValueError(
      f"labels are {names}; wanted names without ';', '<' and newlines"
    )
  first = tok.vocab_size - len(tokenizer.ADDED)
  box = [first + np.arange(1024)] * 4
  box += [first + 1024 + np.arange(128)] * (16 * masks)
  one = tok.encode(f"<loc0000> {names[0]}")
  two = tok.encode(f"<loc0000> {names[0]} ; <loc0000>")
  between = two[len(one) : -1]  # the tokens of " ; "
  spelled = None if labels is None else [tok.encode(f" {x}") for x in names]
  text = _text(tok)
  text = [i for i, x in zip(text, tok.pieces(text)) if not set(";<\n") & set(x)]

  nodes, at = [[]], 0
  for k in range(max_objects or 1):
    begin = at
    for ids in box:
      at = _edge(nodes, at, ids)
    if spelled is None:
      ends = [_edge(nodes, at, text)]
      nodes[ends[0]].append((text, ends[0]))
    else:
      ends = _trie(nodes, at, spelled)
    for end in ends:
      nodes[end].append((tok.eos, end))
    if max_objects is None or k + 1 < max_objects:
      at = _edge(nodes, ends[0], between[0])
      for end in ends[1:]:
        nodes[end].append((between[0], at))
      for i in between[1:]:
        at = _edge(nodes, at, i)
  if max_objects is None:
    nodes[at] += nodes[begin]
  nodes[0].append((tok.eos, 0))
  return build(nodes, tok.vocab_size)


def one_of(tok, options):
  """Allows one of a list of answers, as the tokenizer spells it.

  Args:
    tok: Tokenizer.
    options: list of str.

  Returns:
    Automaton.

  Raises:
    ValueError: no options, or so many that their table is too large.
  """
  if not options:
    raise ValueError("there are no options to choose from")
  nodes = [[]]
  for end in _trie(nodes, 0, [tok.encode(x) for x in options]):
    nodes[end].append((tok.eos, end))
  return build(nodes, tok.vocab_size)


def regex(tok, pattern):
  """Allows what a regular expression matches, spelled in any way.

  Args:
    tok: Tokenizer.
    pattern: str, in the syntax of Rust's regex crate.

  Returns:
    Automaton.

  Raises:
    ValueError: not such an expression, or one that matches nothing.
    ImportError: without the package outlines-core.
  """
  try:
    import outlines_core  # an extra
  except ImportError as error:
    raise ImportError(
      "a constraint by a regular expression needs outlines-core: python -m pip"
      " install outlines-core"
    ) from error
  ids, spelled = _text(tok), {}
  for i, piece in zip(ids, tok.pieces(ids), strict=True):
    is_byte = re.fullmatch("<0x[0-9A-F]{2}>", piece)
    word = bytes([int(piece[3:5], 16)]) if is_byte else None
    word = word or piece.replace("▁", " ").encode()
    spelled.setdefault(word, []).append(i)
  try:
    vocabulary = outlines_core.Vocabulary(tok.eos, spelled)
    index = outlines_core.Index(pattern, vocabulary)
  except ValueError as error:
    raise ValueError(
      f"the expression {pattern!r}: {error}; wanted a regular expression such"
      " as [0-9]+ cats?, without references to groups or looking around"
    ) from error
  edges = index.get_transitions()
  names = dict.fromkeys([index.get_initial_state(), *edges])
  number = {name: i for i, name in enumerate(names)}
  nodes = []
  for i, name in enumerate(names):
    ids = np.array(list(edges.get(name, ())), int)
    after = np.array([number.get(x, i) for x in edges.get(name, {}).values()])
    nodes.append([(ids[after == to], to) for to in np.unique(after)])
  return build(nodes, tok.vocab_size)


def build(nodes, vocab_size):
  """Makes an automaton of one row.

  Args:
    nodes: for each node, from the first, a list of (ids, next node): an id or
      an array of ids; no id twice at a node.
    vocab_size: int.

  Raises:
    ValueError: a table of more than MAX_ENTRIES.
  """
  draw = np.random.default_rng(0).integers
  odd = 2 * draw(2**62, size=len(nodes), dtype=np.uint64) + np.uint64(1)
  code = np.zeros(vocab_size, np.uint64)  # equal for tokens that are alike
  with np.errstate(over="ignore"):  # it is a hash
    for own, edges in zip(odd, nodes, strict=True):
      for ids, to in edges:
        code[ids] += own * np.uint64(to + 1)
  unique, classes = np.unique(code, return_inverse=True)
  if len(nodes) * len(unique) > MAX_ENTRIES:
    raise ValueError(
      f"the constraint has {len(nodes)} nodes and {len(unique)} classes of"
      f" tokens, and its table at most {MAX_ENTRIES} entries; take fewer or"
      " shorter options"
    )
  table = np.full((len(nodes), len(unique)), NEVER, np.int32)
  for row, edges in zip(table, nodes, strict=True):
    for ids, to in edges:
      row[classes[ids]] = to
  return Automaton(classes.astype(np.int32), table, np.zeros(1, np.int32))


def join(automata):
  """Joins the automata of a batch's rows in one; B of one row become one of B.

  Sizes are rounded up to powers of two, so that a compiled program is for many.
  """
  distinct = list({id(a.table): a for a in automata}.values())
  places, size = {}, 0
  for one in distinct:
    places[id(one.table)] = size
    size += len(one.table)
  stacked = np.stack([one.classes for one in distinct])
  columns, classes = np.unique(stacked, axis=1, return_inverse=True)
  up = lambda n: 1 << (n - 1).bit_length()
  table = np.full((up(size), up(columns.shape[1])), NEVER, np.int32)
  size = 0
  for one, column in zip(distinct, columns, strict=True):
    part = one.table[:, column]
    part = np.where(part == NEVER, NEVER, part + size)
    table[size : size + len(part), : part.shape[1]] = part
    size += len(part)
  start = [places[id(one.table)] + one.start[0] for one in automata]
  classes = classes.reshape(-1).astype(np.int32)
  return Automaton(classes, table, np.array(start, np.int32))


@functools.lru_cache(maxsize=4)
def _text(tok):
  """Returns the ids that stand for text, locations and codes: list of int."""
  return [i for i in range(tok.vocab_size) if tok.is_text(i)]


def _edge(nodes, at, ids):
  """Adds a node that follows `at` by one of ids; returns its number."""
  nodes.append([])
  nodes[at].append((ids, len(nodes) - 1))
  return len(nodes) - 1


def _trie(nodes, root, sequences):
  """Adds sequences of ids from a root; returns the nodes where they end."""
  known, ends = {}, []
  for ids in sequences:
    at = root
    for i in ids:
      if (at, i) not in known:
        known[at, i] = _edge(nodes, at, i)
      at = known[at, i]
    ends.append(at)
  return list(dict.fromkeys(ends))
