"""Rows of ids read together, a beginning that several of them share once: the sums of -ln p that scoring is made of.

Rows become a tree: a node is a run of ids that all rows below it have in common, inputs and targets alike. Nodes are
read level by level, many in one pass and without padding: their tokens stand in one row, and each attends to its own
and to the keys and values of the nodes above it, which are kept while they have children to come.
Axes: N tokens of a pass, H query heads, K key-value heads, S tokens of a path, D head width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby, pairwise

import torch
from torch import Tensor

from guiju.device import float32_library, float32_products
from guiju.errors import ModelError
from guiju.generation.scoring import Reading, Row
from guiju.generation.torch_runner import evaluating
from guiju.model import Attend, AttendMemory, LayerCache, Transformer

LEAST_SHARED = 16
"""Tokens from which on a common beginning is a node of its own: for fewer, one pass more costs more."""

_PASS_TOKENS = {"cpu": 2048}
_PASS_TOKENS_ELSEWHERE = 16384
_COPIED_TOKENS = 8192
"""Of the tokens above that are laid before their children's at once."""

_LOGITS_BYTES = 64 << 20
"""Of the logits that are held at once: those of a whole pass times a large vocabulary would fill memory."""


@dataclass(eq=False)
class _Node:
    """Input places `start` to `end` of all rows below it."""

    ids: tuple[int, ...]
    """Of one of the rows: up to `end` they are those of all."""

    start: int
    end: int
    above: tuple[_Node, ...]
    """From the first one down."""

    rows: list[int] = field(default_factory=list)
    """Numbers of all rows below it, or that end with it."""

    children: list[_Node] = field(default_factory=list)
    wanted: int = 0
    """The first input place whose target counts for a row."""

    nats: list[float] = field(default_factory=list)
    """-ln p of each target from the one of `wanted` on."""

    hits: list[bool] = field(default_factory=list)
    keys: list[Tensor] = field(default_factory=list)
    """For each layer (1, K, end - start, D), while children need them."""
    values: list[Tensor] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        return self.end - self.start

    @property
    def tokens_below(self) -> int:
        """Its own and those of all below it."""
        return self.tokens + sum(child.tokens_below for child in self.children)


def pass_tokens(model: Transformer) -> int:
    """Tokens of one pass: enough for fast products, few enough for the memory."""
    return _PASS_TOKENS.get(model.embedding.weight.device.type, _PASS_TOKENS_ELSEWHERE)


def read_rows(model: Transformer, rows: Sequence[Row]) -> list[Reading]:
    """Each row's sum and whether it is what greedy writing would give; the same, to rounding, as each row alone.

    Raises:
        ModelError: a row has more tokens than the context, or the logits are no numbers.
    """
    reader = _Reader(model)
    numbered = sorted(range(len(rows)), key=lambda number: rows[number].ids)
    with evaluating(list(model.modules())), float32_products(float32_library(reader.device)):
        top = list(_tree(rows, numbered, 0, ()))
        reader.read(top)
    nats, greedy = [0.0] * len(rows), [True] * len(rows)
    for node in _all(top):
        for number in node.rows:
            skipped = max(0, rows[number].first - 1 - node.wanted)
            nats[number] += sum(node.nats[skipped:])
            greedy[number] = greedy[number] and all(node.hits[skipped:])
    return [Reading(*found) for found in zip(nats, greedy, strict=True)]


def _tree(rows: Sequence[Row], numbers: Sequence[int], start: int, above: tuple[_Node, ...]) -> Iterator[_Node]:
    """Nodes for rows, in the order of their ids, that have their first `start` inputs in common."""
    shared = [_common(rows[one].ids, rows[other].ids, start) - 1 for one, other in pairwise(numbers)]
    begin = 0
    for place in range(len(numbers)):
        if place < len(shared) and shared[place] - start >= LEAST_SHARED:
            continue
        group = numbers[begin : place + 1]
        ids = rows[group[0]].ids
        end = min(shared[begin:place], default=len(ids) - 1)
        node = _Node(ids, start, end, above, list(group))
        node.wanted = max(start, min(rows[number].first for number in group) - 1)
        if len(group) > 1:
            longer = [number for number in group if len(rows[number].ids) - 1 > end]
            node.children = list(_tree(rows, longer, end, (*above, node)))
        yield node
        begin = place + 1


def _common(one: Sequence[int], other: Sequence[int], start: int) -> int:
    """How many ids both begin with; at least `start` are known to be the same."""
    least = min(len(one), len(other))
    if one[start:least] == other[start:least]:
        return least
    return next(place for place in range(start, least) if one[place] != other[place])


def _all(nodes: Sequence[_Node]) -> Iterator[_Node]:
    for node in nodes:
        yield node
        yield from _all(node.children)


class _Reader:
    """Reads nodes, those above before those below."""

    def __init__(self, model: Transformer) -> None:
        self.model = model
        self.device = model.embedding.weight.device
        self.pass_tokens = pass_tokens(model)
        self.head_rows = max(1, _LOGITS_BYTES // (4 * model.config.vocab_size))

    def read(self, nodes: Sequence[_Node]) -> None:
        """Read nodes and all below them; so many at a time that what is kept for children stays within a pass."""
        ordered = sorted(nodes, key=_size)  # what is equally long attends in one call
        begin = size = 0
        for place, node in enumerate(ordered):
            below = node.tokens_below
            if place > begin and size + below > self.pass_tokens:
                self._read_together(ordered[begin:place])
                begin, size = place, 0
            size += below
        if ordered:
            self._read_together(ordered[begin:])

    def _read_together(self, nodes: Sequence[_Node]) -> None:
        self._pass(nodes)
        self.read([child for node in nodes for child in node.children])
        for node in nodes:
            node.keys, node.values = [], []

    def _pass(self, nodes: Sequence[_Node]) -> None:
        ids = torch.tensor([[token for node in nodes for token in node.ids[node.start : node.end]]], device=self.device)
        hidden = self.model.hidden(ids, cache=_Paths(nodes, self.model.config.context, self.device))[0]  # (N, width)
        places: list[int] = []
        targets: list[int] = []
        for node, end in zip(nodes, accumulate(node.tokens for node in nodes), strict=True):
            places += range(end - (node.end - min(node.wanted, node.end)), end)
            targets += node.ids[min(node.wanted, node.end) + 1 : node.end + 1]
        if not targets:
            return
        nats, hits = self._judge(hidden[places], torch.tensor(targets, device=self.device))
        begin = 0
        for node in nodes:
            count = max(0, node.end - node.wanted)
            node.nats, node.hits = nats[begin : begin + count], hits[begin : begin + count]
            begin += count

    def _judge(self, hidden: Tensor, targets: Tensor) -> tuple[list[float], list[bool]]:
        """-ln p of each target, and whether it is the likeliest token: of (n, width) vectors and (n,) ids."""
        nats, hits = [], []
        for part in range(0, len(targets), self.head_rows):
            logits = self.model.head(hidden[part : part + self.head_rows]).float()  # (n, vocab)
            wanted = targets[part : part + self.head_rows]
            found_nats, found_hits = judge(logits, wanted)
            nats.append(found_nats)
            hits.append(found_hits)
        found = torch.cat(nats)
        if not bool(found.isfinite().all()):
            raise ModelError("the model's logits are not numbers, so nothing can be scored: its weights are damaged")
        return found.tolist(), torch.cat(hits).tolist()


def _size(node: _Node) -> tuple[int, int]:
    return node.tokens, node.start


def _alike(nodes: Sequence[_Node]) -> Iterator[list[_Node]]:
    """Neighbours that have the same number of tokens, and as many above; not too many at once."""
    for (tokens, start), group in groupby(nodes, key=_size):
        found = list(group)
        most = max(1, _COPIED_TOKENS // (start + tokens)) if start else len(found)
        yield from (found[begin : begin + most] for begin in range(0, len(found), most))


def judge(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """-ln p of (n,) ids, and whether each is the likeliest: out of (n, vocab) logits, which are used up."""
    greatest, likeliest = logits.max(dim=-1)  # (n,) each
    behind = greatest - logits.gather(1, targets[:, None])[:, 0]
    # What is likely loses no digits here, as it would in the difference of two large logarithms.
    return behind + logits.sub_(greatest[:, None]).exp_().sum(dim=-1).log(), likeliest == targets


class _Paths:
    """One pass's cache: `Transformer.hidden` takes it for ids of shape (1, N)."""

    def __init__(self, nodes: Sequence[_Node], context: int, device: torch.device) -> None:
        self.nodes, self.context = nodes, context
        places = [place for node in nodes for place in range(node.start, node.end)]
        self._positions = torch.tensor([places], device=device)  # (1, N)

    def require_room(self, tokens: int) -> None:
        longest = max(node.end for node in self.nodes)
        if longest > self.context:
            raise ModelError(f"{longest} tokens are longer than the model's context of {self.context}")

    def positions(self, tokens: int) -> Tensor:
        return self._positions[0] if len(self.nodes) == 1 else self._positions

    def layer(self, index: int) -> LayerCache:
        return _PathsLayer(self.nodes, index)

    def advance(self, tokens: int) -> None: ...


@dataclass(frozen=True)
class _PathsLayer:
    nodes: Sequence[_Node]
    index: int

    def attend(self, query: Tensor, key: Tensor, value: Tensor, attend: Attend) -> Tensor:
        """(1, H, N, D) and twice (1, K, N, D) -> (1, H, N, D)."""
        mixed, begin = [], 0
        for nodes in _alike(self.nodes):
            size = nodes[0].tokens
            parts = [tensor.narrow(2, begin, size * len(nodes)) for tensor in (query, key, value)]
            begin += size * len(nodes)
            rows = [
                part[0].reshape(part.size(1), len(nodes), size, -1).transpose(0, 1) for part in parts
            ]  # (n, H or K, size, D)
            self._keep(nodes, rows[1], rows[2])
            keys, values = self._with_above(nodes, rows[1], rows[2])
            found = attend(rows[0], keys, values)  # (n, H, size, D)
            mixed.append(found.transpose(0, 1).flatten(1, 2)[None])
        return torch.cat(mixed, dim=2)

    def attend_memory(self, query: Tensor, attend: AttendMemory) -> Tensor:
        raise ModelError("a decoder alone reads no source text")

    def _keep(self, nodes: Sequence[_Node], keys: Tensor, values: Tensor) -> None:
        for number, node in enumerate(nodes):
            if node.children:
                node.keys.append(keys[number : number + 1].clone())
                node.values.append(values[number : number + 1].clone())

    def _with_above(self, nodes: Sequence[_Node], keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """(n, K, S, D) twice: with what stands before, which is the same length for all of them."""
        if not nodes[0].above:
            return keys, values
        before = []
        for kept in ("keys", "values"):
            paths = [torch.cat([getattr(one, kept)[self.index] for one in node.above], dim=2) for node in nodes]
            before.append(torch.cat(paths))
        return torch.cat((before[0], keys), dim=2), torch.cat((before[1], values), dim=2)
