"""A record batch written from columns is, byte for byte, the one that the driver writes record by record."""

from __future__ import annotations

from unittest.mock import patch

from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from interlock.codec import ragged
from interlock.codec.ragged import FEW, Ragged
from interlock.codec.rows import LARGE_BYTES
from interlock.kafka import prepared as written_ahead
from interlock.kafka.prepared import Pieces, Prepared, Record, Rows, prepared

AT = 1_700_000_000_123
HEADERS = st.lists(st.tuples(st.text(max_size=8), st.binary(max_size=20)), max_size=3)
RECORDS = st.lists(
    st.tuples(st.none() | st.binary(max_size=70), st.binary(max_size=200), HEADERS), min_size=1, max_size=70
)


def driver(records: list[Record]) -> bytes:
    """Return the batch as the driver builds it."""
    builder = DefaultRecordBatchBuilder(
        2, 0, is_transactional=1, producer_id=7, producer_epoch=3, base_sequence=11, batch_size=2**30
    )
    for offset, (key, value, headers) in enumerate(records):
        builder.append(offset, AT, key=key, value=value, headers=headers)
    return bytes(builder.build())


def written(batch: Prepared) -> bytes:
    """Return the batch as it goes into a request."""
    return bytes(batch._build())


@given(RECORDS, st.sampled_from([0, FEW]))
def test_the_bytes_are_the_drivers(records: list[Record], few: int) -> None:
    """With keys and without, headers on some records, checksum and producer included; few records or not."""
    with patch.object(written_ahead, "FEW", few), patch.object(ragged, "FEW", few):
        [batch] = prepared(records, AT, 2**20)
    batch._set_producer_state(7, 3, 11)
    assert written(batch) == driver(records)
    assert batch.size() == len(driver(records))


@given(RECORDS, st.integers(100, 600))
def test_what_does_not_fit_goes_into_further_batches(records: list[Record], bytes_max: int) -> None:
    """Every batch fits, or holds a single record; together they hold all records in order."""
    batches = prepared(records, AT, bytes_max)
    read: list[Record] = []
    for batch in batches:
        assert batch.size() <= bytes_max or batch.record_count() == 1
        batch._set_producer_state(7, 3, 11)
        built = DefaultRecordBatch(written(batch))
        assert built.validate_crc()
        read += [(record.key, record.value, record.headers) for record in built]
    assert read == [(key, value, list(headers)) for key, value, headers in records]


def test_nothing_makes_no_batch() -> None:
    """No records, no batch: an empty one would be refused by the broker."""
    assert prepared([], AT, 1000) == []
    assert prepared(Rows([], Ragged.of([])), AT, 1000) == []


def test_large_values_are_not_copied_together() -> None:
    """The bytes are the driver's all the same."""
    records: list[Record] = [(b"k", b"begin" + bytes(LARGE_BYTES), [("a", b"b")]), (None, b"x" * LARGE_BYTES, [])]
    in_pieces: list[Record] = [(b"k", Pieces([b"begin", bytes(LARGE_BYTES)]), [("a", b"b")]), *records[1:]]
    for each in (records, in_pieces):
        [batch] = prepared(each, AT, 2**20)
        batch._set_producer_state(7, 3, 11)
        assert written(batch) == driver(records)
        assert len(batch._build().parts) > 2
