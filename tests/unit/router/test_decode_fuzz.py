"""Whatever bytes come as a request: a dead letter with a reason of the closed list, or what its writer wrote."""

from __future__ import annotations

import io
import math
import random
import struct
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import fastavro
import pytest

from interlock.codec import rows, varints
from interlock.codec.columns import Columns
from interlock.codec.framing import HEADER_BYTES
from interlock.codec.plan import Plan
from interlock.errors import Reason
from interlock.kafka.partition import Taken, TopicPartition
from interlock.schemas.events import DeadLetter
from interlock_router.batch import Batch, read
from interlock_router.dead_letters import dead_letters
from interlock_router.model import RouteTable
from interlock_router.results import Rejected
from tests.unit.router.mutations import BY_ID, REQUEST_BYTES_MAX, Shape, mutated, stock
from tests.unit.router.requests import Request

BATCH_ROWS = 500
SENTINEL_EVERY = 50
READING = {
    Reason.EMPTY, Reason.TOO_LARGE, Reason.BAD_FRAMING, Reason.UNKNOWN_SCHEMA, Reason.TRUNCATED, Reason.TRAILING_BYTES,
    Reason.MALFORMED,
}  # fmt: skip
TABLE = RouteTable("e", 1, (), 1, ())
AT = datetime(2026, 1, 2, tzinfo=UTC)


@dataclass
class Tally:
    """What became of the requests."""

    outcomes: Counter[str] = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        """How many there were."""
        return sum(self.outcomes.values())


async def plans(schema_id: int) -> Plan | None:
    shape = BY_ID.get(schema_id)
    return shape.plan if shape else None


async def fuzz(requests: int, seed: int) -> Tally:
    """Read so many spoilt requests in batches, sound ones between them, and judge each."""
    chance, tally = random.Random(seed), Tally()
    sound = stock(chance, 60)
    while tally.requests < requests:
        values = [mutated(sound, chance) for _ in range(min(BATCH_ROWS, requests - tally.requests))]
        sentinels = range(0, len(values) + 1, SENTINEL_EVERY)
        mixed: list[bytes | None] = list(values)
        for place in reversed(sentinels):
            mixed.insert(place, chance.choice(sound))
        untouched = {place + index for index, place in enumerate(sentinels)}
        requests_ = [Request(offset, value) for offset, value in enumerate(mixed)]
        taken = Taken(TopicPartition("t", 0), requests_, len(mixed), 0)
        batch = await read([taken], plans, REQUEST_BYTES_MAX)
        assert not untouched & set(batch.rejections), "a spoilt request spoils its neighbour"
        _judge(batch, untouched, tally)
    return tally


def _judge(batch: Batch, untouched: set[int], tally: Tally) -> None:
    for rejection in batch.rejections.values():
        assert rejection.reason in READING
        tally.outcomes[rejection.reason.value] += 1
    rejected = [Rejected(row, rejection, None) for row, rejection in batch.rejections.items()]
    for each, (_, value, _) in zip(rejected, dead_letters(batch, TABLE, "t", 0, rejected, AT), strict=True):
        letter = rows.decode(bytes(value))
        assert isinstance(letter, DeadLetter) and letter.value == batch.records[each.row].value
    for group in batch.groups:
        shape = BY_ID[group.schema_id]
        for index, row in enumerate(group.rows.tolist()):
            if row not in batch.rejections:
                value = batch.records[row].value
                assert value is not None
                same = _agrees(shape, value[HEADER_BYTES:], group.columns, index)
                assert batch.request_ids[row] == (group.columns.texts("request_id") or [])[index]
                if row not in untouched:
                    tally.outcomes["the same bytes" if same else "another spelling"] += 1


def _agrees(shape: Shape, body: bytes, columns: Columns, index: int) -> bool:
    """Check a request that was accepted against fastavro; say whether it is the one spelling of what it says.

    A schema that is read by columns has one spelling of each record, and only that is accepted. Where it is read row
    by row Avro allows several (lists in blocks): then the plain one must be what any writer makes of the record.
    """
    stream = io.BytesIO(body)
    record: Any = fastavro.schemaless_reader(stream, shape.parsed, None)
    assert stream.tell() == len(body), "fastavro reads less of it"
    for each in shape.schema["fields"]:
        found, wanted = _cell(columns, each["name"], index), record[each["name"]]
        assert found is _NO_CELL or _bits(found) == _bits(wanted), (shape.name, each["name"], found, wanted)
    again = io.BytesIO()
    fastavro.schemaless_writer(again, shape.parsed, record)
    if again.getvalue() == body:
        return True
    if _quieted(body, again.getvalue()):
        return True
    assert not shape.plan.columnar, f"{shape.name}: {body.hex()} was read as {again.getvalue().hex()}"
    reread = fastavro.schemaless_reader(io.BytesIO(again.getvalue()), shape.parsed, None)
    assert repr(reread) == repr(record)
    return False


def _quieted(body: bytes, again: bytes) -> bool:
    """Say whether only signalling NaNs of four bytes differ: fastavro's C sets their quiet bit as it widens them."""
    return len(body) == len(again) and all(
        found | 0x40 == wanted and body[place + 1] & 0x7F == 0x7F
        for place, (found, wanted) in enumerate(zip(body, again, strict=True))
        if found != wanted
    )


_NO_CELL = object()


def _cell(columns: Columns, name: str, index: int) -> Any:
    column = columns.columns[name]
    if column.null is not None and column.null[index]:
        return None
    if column.texts is not None:
        text = column.texts[index]
        return None if text is None else text.decode()
    if column.numbers is None:
        return _NO_CELL  # bytes, fixed, lists: no feature, so nothing is kept
    number = column.numbers[index].item()
    return column.symbols[int(number)].decode() if column.symbols else number


def _bits(value: Any) -> Any:
    """Return what two readings of one value share: all bits of a number."""
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and math.isnan(value):
        return b"nan"
    return struct.pack("<d", value) if isinstance(value, float) else value


async def test_spoilt_requests_become_dead_letters_or_read_as_what_was_written() -> None:
    """3,000 of the 300,000: no crash, a reason of the closed list for each, or a decode that writes the same bytes."""
    tally = await fuzz(3_000, seed=1)
    assert tally.requests == 3_000
    assert {reason.value for reason in READING} | {"the same bytes"} <= set(tally.outcomes)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(2, 12))
async def test_three_hundred_thousand_spoilt_requests_crash_nothing(seed: int) -> None:
    """Ten times 30,000, each of another seed."""
    tally = await fuzz(30_000, seed)
    assert tally.requests == 30_000


@pytest.mark.parametrize("number", [0, 1, -1, 63, -64, 64, 8191, 2**31, -(2**62)])
def test_a_number_in_more_bytes_than_it_takes_is_refused(number: int) -> None:
    """`80 00` is not another zero: a record has one spelling, or its digest would not be its identity."""
    import numpy as np

    plain = varints.encode(number)
    longer = plain[:-1] + bytes([plain[-1] | 0x80]) + b"\x00"
    for content, broken in ((plain, False), (longer, True)):
        buffer = np.frombuffer(content + bytes(varints.BYTES_MAX + 1), dtype=np.uint8)
        value, after, flags = varints.read(buffer, np.array([0]))
        assert flags.tolist() == [broken] and after.tolist() == [len(content)]
        assert broken or value.tolist() == [number]
