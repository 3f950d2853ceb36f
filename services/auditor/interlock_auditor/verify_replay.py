"""Replay: the topics read again from offset 0, and every entry made anew, in the order in which the log has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from interlock import merkle
from interlock.ids import request_name
from interlock.kafka.chunks import ChunkReader
from interlock.postgres.pool import Connection
from interlock.settings import PlatformSettings
from interlock_auditor import store
from interlock_auditor.entry import leaves, of_record
from interlock_auditor.verify import Finding

ROWS_MAX: Final = 2_000
LOOK_SECONDS: Final = 0.5

UNLOGGED: Final = "not in the log"
OTHER_RECORD: Final = "differs from the record"
GONE: Final = "no longer in Kafka"


class Replayed(msgspec.Struct, frozen=True):
    """What reading the topics again yields: the root over the entries made anew, and what does not agree."""

    root: bytes
    records: int
    gone: int
    """Entries whose record Kafka no longer keeps (compacted, or past its retention); theirs is the table's own leaf."""
    findings: tuple[Finding, ...]


async def replay(settings: PlatformSettings, connection: Connection, tree: merkle.Tree) -> Replayed:
    """Read every topic of the log from its beginning up to the log's last record of it, and compare.

    `tree` is that of the table. A record up to there that has no entry is told, as is an entry whose record says
    something else. Raises Transient while a server is away.
    """
    ends = await store.positions(connection)
    numbers = {place: dict(await store.places(connection, *place)) for place in ends}
    found: list[Finding] = []
    hashes: dict[int, bytes] = {}
    records = 0
    reader = ChunkReader(settings, dict.fromkeys(ends, 0), ROWS_MAX)
    try:
        await reader.start({topic for topic, _ in ends})
        while True:
            taken = await reader.take(LOOK_SECONDS)
            for record in taken:
                place = (record.topic, record.partition)
                if record.offset >= ends.get(place, 0):
                    continue
                records += 1
                seq = numbers[place].pop(record.offset, None)
                if seq is None:
                    name = request_name(record.topic, record.partition, record.offset)
                    found.append(Finding(UNLOGGED, tree.size, tree.size, name))
                    continue
                hashes[seq] = leaves([of_record(seq, record)])[0]
                if seq >= tree.size or hashes[seq] != tree.leaf(seq):
                    found.append(Finding(OTHER_RECORD, seq, seq, request_name(*place, record.offset)))
            if not taken and not await reader.lag():
                break
    finally:
        await reader.close()
    left = _left(numbers)
    root = merkle.root([hashes[seq] if seq in hashes else tree.leaf(seq) for seq in range(tree.size)])
    return Replayed(root, records, left, tuple(found))


def _left(numbers: Mapping[tuple[str, int], Mapping[int, int]]) -> int:
    return sum(len(each) for each in numbers.values())
