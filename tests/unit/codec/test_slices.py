"""Chunks of a message lead to its BLAKE3 digest, by the verifier that a stranger runs; and nothing else does."""

from __future__ import annotations

import base64
import random
from typing import Any

import pytest
from blake3 import blake3

from interlock.codec import slices
from interlock_auditor.verifier import Shown, Wrong

SIZES = (1, 63, 64, 65, 1023, 1024, 1025, 2048, 2049, 3000, 5 * 1024, 7 * 1024 + 1, 16 * 1024, 33_000)


def told(message: bytes, ranges: list[tuple[int, int]]) -> dict[str, Any]:
    """Return chunks as a bundle holds them."""
    return {
        "bytes": len(message),
        "chunks": [
            {"index": each.index, "content": text(each.content), "path": [text(step) for step in each.path]}
            for each in slices.chunks(message, ranges)
        ],
    }


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize("size", SIZES)
def test_every_chunk_leads_to_the_digest(size: int) -> None:
    """One chunk and many, whole ones and a last one of any length, trees that are full and that are not."""
    message = random.Random(size).randbytes(size)
    shown = Shown(told(message, [(0, size)]), blake3(message).hexdigest(), "it")
    assert shown.take(0, size) == message
    for start in range(0, size, 700):
        end = min(start + 1500, size)
        part = Shown(told(message, [(start, end)]), "blake3:" + blake3(message).hexdigest(), "it")
        assert part.take(start, end) == message[start:end]


def test_what_is_not_shown_cannot_be_taken() -> None:
    """Wrong, not zeros: bytes of a chunk that is missing, and bytes behind the message."""
    message = random.Random(1).randbytes(5000)
    shown = Shown(told(message, [(0, 10), (4100, 4200)]), blake3(message).hexdigest(), "it")
    assert shown.take(4096, 5000) == message[4096:]
    for start, end in ((1000, 1030), (4999, 5001), (5, 4)):
        with pytest.raises(Wrong):
            shown.take(start, end)


@pytest.mark.parametrize("size", [1000, 1025, 5000, 16 * 1024])
def test_nothing_but_the_truth_leads_to_the_digest(size: int) -> None:
    """A bit of a chunk or of its path, another place, another length, a neighbour too many or too few."""
    rng = random.Random(size)
    message = rng.randbytes(size)
    root = blake3(message).hexdigest()
    place = rng.randrange(size)
    for part in ("content", "step", "index", "bytes", "longer", "shorter", "swapped"):
        given = told(message, [(place, place + 1)])
        [chunk] = given["chunks"]
        path = chunk["path"]
        if not path and part in {"step", "shorter", "swapped"}:
            continue
        if part == "content":
            chunk["content"] = flipped(chunk["content"], rng)
        elif part == "step":
            path[-1] = flipped(path[-1], rng)
        elif part == "index":
            chunk["index"] ^= 1
        elif part == "bytes":
            given["bytes"] += 1024
        elif part == "longer":
            path.append(text(bytes(32)))
        elif part == "shorter":
            path.pop()
        elif len(path) > 1:
            path[0], path[1] = path[1], path[0]
        else:
            continue
        with pytest.raises(Wrong):
            Shown(given, root, "it")


def flipped(content: str, rng: random.Random) -> str:
    """Return base64 with one bit changed."""
    changed = bytearray(base64.b64decode(content))
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return text(bytes(changed))
