"""Damage to files and requests that are whole: bits, cuts, splices, numbers, JSON, check sums."""

import json
import random
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

NUMBERS = (
    *(0, 1, 2, 3, 7, 8, 16, 127, 128, 255, 256, 1000, 4096, 65535, 65536, 10**6, 2**24),
    *(2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1, 10**30, -1, -2, -(2**31)),
)
WORDS = (b"nan", b"inf", b"-inf", b"1e999", b"-1e-320", b"", b"\0", b"\xff\xfe", b"..", b"%n")
VALUES: tuple[Any, ...] = (
    *(None, True, False, "", "..", "../../../etc/passwd", "\0", "\ud800", "x" * 3000, "NaN"),
    *([], {}, [[]], [None], {"": None}, [0] * 1000, float("nan"), float("inf"), 1e308, -1e308),
    *(1e-320, 0.5, -0.0),
)
HEAD = 400  # bytes in which headers mostly lie
Chance = random.Random


def mutated(chance: Chance, data: bytes, others: Sequence[bytes]) -> bytes:
    """Return data with one to a few faults; ``others`` are whole inputs to splice with."""
    for _ in range(1 + min(int(chance.expovariate(0.8)), 8)):
        name = chance.choice(list(BYTES))
        data = BYTES[name](chance, data) if name != "splice" else _splice(chance, data, others)
    return data


def _at(chance: Chance, data: bytes) -> int:
    """Return a place in the data, every other time near its beginning."""
    end = min(len(data), HEAD) if chance.random() < 0.5 else len(data)
    return chance.randrange(end) if end else 0


def _flip(chance: Chance, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 8, 64)) if changed else 0):
        changed[_at(chance, data)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _number(chance: Chance, data: bytes) -> bytes:
    """Put a number of interest over 1 to 8 bytes, in either order of bytes."""
    width, at = chance.choice((1, 2, 4, 8)), _at(chance, data)
    value = chance.choice(NUMBERS) % 256**width
    return data[:at] + value.to_bytes(width, chance.choice(("little", "big"))) + data[at + width :]


def _digits(chance: Chance, data: bytes) -> bytes:
    """Put another number, or no number, in the place of one that is written in digits."""
    start = _at(chance, data)
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", data[start : start + 2000]))
    if not found:
        return data
    one = chance.choice(found)
    told = str(chance.choice(NUMBERS)).encode() if chance.random() < 0.7 else chance.choice(WORDS)
    return data[: start + one.start()] + told + data[start + one.end() :]


def _cut(chance: Chance, data: bytes) -> bytes:
    return data[: _at(chance, data)]


def _leave_out(chance: Chance, data: bytes) -> bytes:
    at = _at(chance, data)
    return data[:at] + data[at + 1 + int(chance.expovariate(1 / 40)) :]


def _repeat(chance: Chance, data: bytes) -> bytes:
    at, size = _at(chance, data), 1 + int(chance.expovariate(1 / 40))
    times = chance.choice((1, 2, 10, 1000)) if size < 200 else 1
    return data[:at] + data[at : at + size] * times + data[at:]


def _insert(chance: Chance, data: bytes) -> bytes:
    at = _at(chance, data)
    return data[:at] + chance.randbytes(chance.choice((1, 2, 4, 16, 300))) + data[at:]


def _splice(chance: Chance, data: bytes, others: Sequence[bytes]) -> bytes:
    other = chance.choice(others)
    at = _at(chance, other)
    return data[: _at(chance, data)] + other[at : at + 100_000]


BYTES: dict[str, Callable[[Chance, bytes], bytes]] = {
    "flip": _flip,
    "number": _number,
    "digits": _digits,
    "cut": _cut,
    "leave out": _leave_out,
    "repeat": _repeat,
    "insert": _insert,
    "splice": lambda chance, data: data,
}


def mutated_tree(chance: Chance, tree: Any) -> Any:
    """Return what JSON holds with one to a few faults; the tree given stays as it is."""
    tree = json.loads(json.dumps(tree))
    for _ in range(1 + min(int(chance.expovariate(0.9)), 6)):
        places = list(_places(tree))
        if not places:
            return tree
        holder, key = chance.choice(places)
        kind = chance.random()
        if kind < 0.15:
            del holder[key]
        elif kind < 0.3 and isinstance(holder, dict):
            holder[chance.choice(("", "x", str(key).upper(), f"{key}_"))] = holder.pop(key)
        elif kind < 0.4:
            other, name = chance.choice(places)
            holder[key] = json.loads(json.dumps(other.get(name) if isinstance(other, dict) else 0))
        elif kind < 0.5:
            holder[key] = _nested(chance, holder[key])
        else:
            holder[key] = _other(chance, holder[key])
    return tree


def _places(tree: Any) -> Any:
    """Yield every (container, key), those deep inside as often as those on top."""
    keys = list(tree) if isinstance(tree, dict) else range(min(len(tree), 40))
    for key in keys:
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _places(tree[key])


def _nested(chance: Chance, value: Any) -> Any:
    for _ in range(chance.choice((1, 2, 50))):
        value = [value] if chance.random() < 0.5 else {"a": value}
    return value


def _other(chance: Chance, value: Any) -> Any:
    """Return another value, mostly of the same kind: such faults get furthest."""
    if isinstance(value, bool) or value is None or chance.random() < 0.3:
        return chance.choice(VALUES + NUMBERS)
    if isinstance(value, int):
        return chance.choice((*NUMBERS, value + 1, value - 1, 2 * value, -value, float(value)))
    if isinstance(value, float):
        return chance.choice((-value, 1e300, -1e300, 1e-300, 0.0, value * 10, float("nan"), 2**70))
    if isinstance(value, str):
        cut = chance.randrange(len(value) + 1)
        ways = (value[:cut], value * 2, value + "/..", "../" + value, value.upper(), "é" + value)
        return chance.choice(ways)
    if isinstance(value, list):
        return chance.choice((value * 2, value[:-1], value[::-1], [*value, 0], value * 100))
    return chance.choice(({}, [], list(value), dict(list(value.items())[:-1])))


def json_bytes(chance: Chance, tree: Any) -> bytes:
    """Return a damaged tree as text, which now and then is damaged too."""
    text = json.dumps(mutated_tree(chance, tree)).encode("utf-8", "surrogatepass")
    if chance.random() < 0.03:  # deeper than any reader goes
        text = b"[" * 200_000 + text
    return mutated(chance, text, [text]) if chance.random() < 0.2 else text


def with_json_header(chance: Chance, data: bytes) -> bytes:
    """Return safetensors whose header is damaged as JSON, its length right again."""
    length = int.from_bytes(data[:8], "little")
    header = json_bytes(chance, json.loads(data[8 : 8 + length]))
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def with_glb_tree(chance: Chance, data: bytes) -> bytes:
    """Return a GLB whose tree is damaged as JSON, its lengths right again."""
    length = struct.unpack_from("<I", data, 12)[0]
    tree = json_bytes(chance, json.loads(data[20 : 20 + length]))
    tree += b" " * (-len(tree) % 4)
    rest = data[20 + length :]
    total = 20 + len(tree) + len(rest)
    return data[:8] + struct.pack("<II", total, len(tree)) + data[16:20] + tree + rest


def with_right_sums(data: bytes) -> bytes:
    """Return a PNG with the check sums its chunks should have: faults then get past them."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return data
    out, at = bytearray(data[:8]), 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        body = data[at + 4 : at + 8 + length]
        if len(body) < 4 + length:
            break
        out += data[at : at + 4] + body + zlib.crc32(body).to_bytes(4, "big")
        at += 12 + length
    return bytes(out) + data[at:]
