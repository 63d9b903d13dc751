"""Damage at random: of bytes, of protobuf fields at any depth, of the JSON in metadata; equal seeds, equal damage."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

Random = np.random.Generator
NUMBERS = (0, 1, 2, 7, 127, 128, 2**31 - 1, 2**31, 2**32, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
"""Varints at which programs break."""
LEAVES = (None, True, -1, 0, 3, 10**30, 1.5, 1e308, "", "x", "9*N", "../x", [], [[]], {}, {"x": 1}, [None] * 3)
"""JSON that takes the place of other JSON."""


def varint(value: int) -> bytes:
    """Protobuf's encoding of a number."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def flipped(content: bytes, rng: Random) -> bytes:
    """One to eight bits flipped."""
    damaged = bytearray(content)
    for place in rng.integers(0, len(content), rng.integers(1, 9)):
        damaged[place] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def truncated(content: bytes, rng: Random) -> bytes:
    """Cut anywhere."""
    return content[: rng.integers(1, len(content))]


def overwritten(content: bytes, rng: Random) -> bytes:
    """A run of bytes replaced by others, or by another run of the file."""
    start, length = int(rng.integers(0, len(content))), int(rng.integers(1, 64))
    elsewhere = int(rng.integers(0, len(content)))
    run = rng.bytes(length) if rng.random() < 0.5 else content[elsewhere : elsewhere + length]
    return content[:start] + run + content[start + length * int(rng.integers(0, 2)) :]


def spliced(content: bytes, rng: Random) -> bytes:
    """One protobuf field of one message changed, doubled, left out, moved, or with a length that lies."""
    fields = _fields(content)
    if not fields:
        return content
    index = int(rng.integers(len(fields)))
    key, value = fields[index]
    if isinstance(value, bytes) and rng.random() < 0.85 and _fields(value):
        inner = spliced(value, rng)
        return _joined([*fields[:index], (key, inner), *fields[index + 1 :]])
    change = rng.integers(6)
    if change == 0:
        fields[index:index] = [(key, value)] * int(rng.integers(1, 4))
    elif change == 1:
        del fields[index]
    elif change == 2:
        fields.insert(int(rng.integers(len(fields))), fields.pop(index))
    elif change == 3:
        fields[index] = (key ^ (1 << int(rng.integers(3, 8))), value)
    elif isinstance(value, int):
        fields[index] = (key, int(rng.choice(np.array(NUMBERS, dtype=object))))
    elif change == 4:
        lie = _joined(fields[:index]) + varint(key) + varint(int(rng.choice(np.array(NUMBERS, dtype=object))))
        return lie + value + _joined(fields[index + 1 :])
    else:
        other = fields[int(rng.integers(len(fields)))][1]
        fields[index] = (key, other if isinstance(other, bytes) else rng.bytes(int(rng.integers(9))))
    return _joined(fields)


def misdescribed(content: bytes, rng: Random) -> bytes:
    """One value in one of the tables that onnxviz keeps in the metadata replaced by another kind of value."""
    model = onnx.ModelProto.FromString(content)
    entries = [p for p in model.metadata_props if p.key.startswith("onnxviz.")]
    entry = entries[int(rng.integers(len(entries)))]
    entry.value = misplaced(entry.value, rng)
    return model.SerializeToString()


def misplaced(text: str, rng: Random) -> str:
    """JSON in which one value is replaced by another kind of value."""
    root = [json.loads(text)]
    places = _places(root)
    places[int(rng.integers(len(places)))](LEAVES[int(rng.integers(len(LEAVES)))])
    return json.dumps(root[0])


def _places(node: Any) -> list[Callable[[Any], Any]]:
    """Functions that put something in the place of each value inside of a JSON value."""
    found: list[Callable[[Any], Any]] = []
    for key in range(len(node)) if isinstance(node, list) else list(node) if isinstance(node, dict) else ():
        found.append(lambda new, key=key: node.__setitem__(key, new))
        found.extend(_places(node[key]))
    return found


def _fields(content: bytes) -> list[tuple[int, int | bytes]]:
    """A message's fields as (key, number or bytes); none where it is no message."""
    fields: list[tuple[int, int | bytes]] = []
    position = 0
    try:
        while position < len(content):
            key, position = _varint(content, position)
            wire = key & 7
            if wire == 0:
                value, position = _varint(content, position)
                fields.append((key, value))
                continue
            length, position = _varint(content, position) if wire == 2 else ({1: 8, 5: 4}[wire], position)
            if key >> 3 == 0 or position + length > len(content):
                return []
            fields.append((key, content[position : position + length]))
            position += length
    except (IndexError, KeyError):
        return []
    return fields


def _varint(content: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position


def _joined(fields: list[tuple[int, int | bytes]]) -> bytes:
    out = bytearray()
    for key, value in fields:
        out += varint(key)
        if isinstance(value, int):
            out += varint(value)
        else:
            out += (varint(len(value)) if key & 7 == 2 else b"") + value
    return bytes(out)


def damaged(content: bytes, seed: int, kind: str) -> bytes:
    """The file after one damage of a kind."""
    return KINDS[kind](content, np.random.default_rng(seed))


KINDS: dict[str, Callable[[bytes, Random], bytes]] = {
    "flipped": flipped,
    "truncated": truncated,
    "overwritten": overwritten,
    "spliced": spliced,
    "misdescribed": misdescribed,
}
