"""The whole table held against the witness's hashes, stretch by stretch, by as many processes as may hash at once."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, Protocol

import msgspec
import structlog

from interlock import cores
from interlock.errors import Transient
from interlock.merkle import HASH_BYTES, Tree
from interlock.postgres.pool import Connection
from interlock_auditor import store_blocks
from interlock_auditor.tiles import TILE_ENTRIES
from interlock_auditor.verify import Comparison
from interlock_auditor.verify_worker import Hashed, Place, Stretch, Told, hashed

WORKER: Final = "interlock_auditor.verify_worker"
STRETCH_ENTRIES: Final = 65_536
"""How many numbers a stretch has at most: a perfect subtree, and much longer work than handing it out."""
AHEAD_MAX: Final = 4
"""How many hashed stretches may wait for one that lies before them, for each process."""
FORGED_MAX: Final = 1_000
"""How many forged columns are named."""
END_SECONDS_MAX: Final = 2.0

Witnessed = Callable[[], Awaitable[bytes]]
"""Asks the witness for its leaf hashes."""

log = structlog.get_logger("interlock.auditor")


class Hasher(Protocol):
    """Reads and hashes one stretch at a time."""

    async def hash(self, stretch: Stretch) -> Hashed:
        """Return the stretch hashed; raises Transient."""
        ...


class Here:
    """Hashes in this process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def hash(self, stretch: Stretch) -> Hashed:
        """Return the stretch hashed."""
        return await hashed(self._connection, stretch)


class Elsewhere:
    """Hashes in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, place: Place) -> None:
        self._process = process
        self._next = msgspec.json.encode(place) + b"\n"
        """What it is told with the next stretch, before it."""

    async def hash(self, stretch: Stretch) -> Hashed:
        """Return the stretch hashed; raises Transient where the process ended, or the server is away from it."""
        asked, answers = self._process.stdin, self._process.stdout
        if asked is None or answers is None:
            raise ValueError("a process without pipes")
        try:
            asked.write(self._next + msgspec.json.encode(stretch) + b"\n")
            self._next = b""
            await asked.drain()
            told = msgspec.json.decode(await answers.readuntil(), type=Told)
            if told.away is not None:
                raise Transient(told.away)
            leaves = await answers.readexactly(told.leaves_bytes)
            return Hashed(told, leaves, await answers.readexactly(told.nodes_bytes))
        except (asyncio.IncompleteReadError, OSError) as error:
            raise Transient("A process that hashed rows has ended.") from error


@asynccontextmanager
async def elsewhere(place: Place) -> AsyncIterator[Hasher | None]:
    """Lend a process that hashes; None where the system gives none."""
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", WORKER, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
    except OSError as error:
        log.warning("auditor.alone", detail=f"No process to hash rows in: {error}", todo="it takes longer")
        yield None
        return
    try:
        yield Elsewhere(process, place)
    finally:
        if process.returncode is None:
            process.kill()
        await asyncio.wait_for(process.wait(), END_SECONDS_MAX)


class Table:
    """A reading of the whole table: `comparison` holds it against the witness, `tree` is that of the witness's hashes.

    A connection is for second looks, at what is not simply right.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._witnessed = b""
        self._parts: list[bytes] = []
        self.comparison = Comparison(b"", 0)
        self.tree = Tree()
        self.forged: list[int] = []

    @property
    def leaves(self) -> bytes:
        """The leaf hashes of all rows, in order."""
        return b"".join(self._parts)

    @property
    def newer(self) -> bytes:
        """The leaf hashes behind those that the witness knows."""
        return self.leaves[self.comparison.size * HASH_BYTES :]

    async def read(self, connection: Connection, place: Place, workers: int, witnessed: Witnessed) -> None:
        """Read it by another connection, with up to `workers` processes in all; raises Transient.

        The witness is asked for its leaf hashes while the first rows are hashed.
        """
        stretches = [each async for each in _stretches(self._connection)]
        results = [asyncio.get_running_loop().create_future() for _ in stretches]
        async with AsyncExitStack() as stack:
            others = min(workers, len(stretches), cores.usable()) - 1
            lent = [await stack.enter_async_context(elsewhere(place)) for _ in range(others)]
            hashers = [Here(connection), *(each for each in lent if each is not None)]
            waiting = deque(zip(stretches, results, strict=True))
            ahead = asyncio.Semaphore(AHEAD_MAX * len(hashers))
            try:
                async with asyncio.TaskGroup() as group:
                    for each in hashers:
                        group.create_task(_work(each, waiting, ahead))
                    self._witnessed = await witnessed()
                    self.comparison = Comparison(self._witnessed, len(self._witnessed) // HASH_BYTES)
                    for stretch in stretches:
                        await self._take(stretch, await results.pop(0))
                        ahead.release()
            except BaseExceptionGroup as failures:
                raise failures.exceptions[0] from None
        self._grow(self.comparison.size)

    async def _take(self, stretch: Stretch, found: Hashed) -> None:
        """Compare one stretch; a tile that is not what was witnessed is fetched again, and looked at row by row."""
        at = 0
        for tile in found.told.tiles:
            leaves = found.leaves[at : at + tile.rows * HASH_BYTES]
            at += len(leaves)
            if not (tile.whole and self.comparison.take(tile.first, leaves)):
                again = await store_blocks.span(self._connection, tile.first, tile.first + TILE_ENTRIES)
                for each in again.tiles:
                    self.comparison.add(each)
        self.forged += found.told.forged[: FORGED_MAX - len(self.forged)]
        self._parts.append(found.leaves)
        self._grow(stretch.first)
        if found.nodes and found.leaves == self._witnessed[stretch.first * HASH_BYTES : stretch.behind * HASH_BYTES]:
            self.tree.graft(found.leaves, found.nodes)

    def _grow(self, size: int) -> None:
        """Let the tree of the witness's hashes reach `size`, or its end."""
        self.tree.extend_with(self._witnessed[self.tree.size * HASH_BYTES : max(0, size) * HASH_BYTES])


async def _work(
    hasher: Hasher, waiting: deque[tuple[Stretch, asyncio.Future[Hashed]]], ahead: asyncio.Semaphore
) -> None:
    """Hash one waiting stretch after the other, but not too far ahead of what was taken."""
    while waiting:
        stretch, result = waiting.popleft()
        result.set_result(await hasher.hash(stretch))
        await ahead.acquire()


async def _stretches(connection: Connection) -> AsyncIterator[Stretch]:
    """Yield the stretches with rows, in order; a row far from all others costs one stretch, not all between."""
    at: int | None
    at, behind = await store_blocks.bounds(connection)
    while at is not None and at < behind:
        first = at // STRETCH_ENTRIES * STRETCH_ENTRIES
        yield Stretch(first, min(first + STRETCH_ENTRIES, behind))
        at = await store_blocks.next_number(connection, first + STRETCH_ENTRIES)
