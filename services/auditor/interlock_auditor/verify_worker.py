"""A stretch of the log read from the table and hashed: by whoever verifies, or, on another core, by this as a process.

`python -m interlock_auditor.verify_worker` takes lines of JSON: first a `Place`, then one `Stretch` after the other.
It answers each with a line of JSON, `Told`, and behind it the bytes that the line announces. It ends with its input.
Little is imported here, for it is to be there at once.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

import msgspec

from interlock.errors import Transient
from interlock.merkle import Tree
from interlock.postgres.pool import dedicated
from interlock_auditor import store_blocks
from interlock_auditor.store_blocks import SPAN_ENTRIES
from interlock_auditor.tiles import TILE_ENTRIES, Tile

if TYPE_CHECKING:
    from interlock.postgres.pool import Connection


class Place(msgspec.Struct, frozen=True):
    """Where the log lies."""

    dsn: str
    schema: str


class Stretch(msgspec.Struct, frozen=True):
    """The numbers to be read: `first`, a multiple of a tile's length, up to before `behind`."""

    first: int
    behind: int


class TileTold(msgspec.Struct, frozen=True, array_like=True):
    """One tile with rows: its first number, how many rows it has, and whether they bear its 256 numbers in order."""

    first: int
    rows: int
    whole: bool


class Told(msgspec.Struct, frozen=True):
    """What was found; `away` says why nothing was, where the server went away."""

    tiles: list[TileTold] = []
    forged: list[int] = []
    leaves_bytes: int = 0
    nodes_bytes: int = 0
    away: str | None = None


class Hashed(msgspec.Struct, frozen=True):
    """A stretch, hashed: what is told of its tiles, their leaf hashes in order, and the nodes above them.

    `nodes` are the levels of a perfect subtree from the leaves' parents up, one behind the other; empty where the
    stretch is none.
    """

    told: Told
    leaves: bytes
    nodes: bytes


async def hashed(connection: Connection, stretch: Stretch) -> Hashed:
    """Read and hash a stretch, the next span being fetched while one is hashed."""
    parts: list[bytes] = []
    told: list[TileTold] = []
    doubtful, at, size = False, stretch.first, stretch.behind - stretch.first
    span = await store_blocks.span(connection, at, min(at + SPAN_ENTRIES, stretch.behind))
    while at < stretch.behind:
        at += SPAN_ENTRIES
        following = store_blocks.span(connection, at, max(at, min(at + SPAN_ENTRIES, stretch.behind)))
        doubtful = doubtful or span.doubtful
        span, _ = await asyncio.gather(following, asyncio.to_thread(_hash, span.tiles, parts, told))
    leaves = b"".join(parts)
    forged = await store_blocks.forged_columns(connection, stretch.first, stretch.behind) if doubtful else []
    perfect = _is_subtree(stretch) and len(parts) * TILE_ENTRIES == size and all(each.whole for each in told)
    nodes = await asyncio.to_thread(_nodes, leaves) if perfect else b""
    return Hashed(Told(told, forged, len(leaves), len(nodes)), leaves, nodes)


def _hash(tiles: list[Tile], parts: list[bytes], told: list[TileTold]) -> None:
    for tile in tiles:
        parts.append(tile.leaves)
        told.append(TileTold(tile.first, len(tile), tile.whole))


def _is_subtree(stretch: Stretch) -> bool:
    size = stretch.behind - stretch.first
    return size & (size - 1) == 0 and stretch.first % size == 0


def _nodes(leaves: bytes) -> bytes:
    tree = Tree()
    tree.extend_with(leaves)
    return b"".join(tree.levels()[1:])


async def serve() -> None:
    """Answer until the input ends."""
    place = msgspec.json.decode(await _line(), type=Place)
    async with dedicated(place.dsn) as connection:
        await connection.execute(f"SET search_path = {place.schema}; {store_blocks.SETUP}")
        while line := await _line():
            found = await hashed(connection, msgspec.json.decode(line, type=Stretch))
            await asyncio.to_thread(_say, found.told, found.leaves, found.nodes)


async def _line() -> bytes:
    return await asyncio.to_thread(sys.stdin.buffer.readline)


def _say(told: Told, *content: bytes) -> None:
    for each in (msgspec.json.encode(told), b"\n", *content):
        sys.stdout.buffer.write(each)
    sys.stdout.buffer.flush()


def main() -> int:
    """Serve; who started this process is told where the server goes away, and ends it by ending its input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both
    try:
        asyncio.run(serve())
    except Transient as error:
        _say(Told(away=error.detail))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
