"""A batch of requests as a lane took it: read into columns, every request either good or rejected."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from operator import attrgetter
from typing import Protocol

import numpy as np
import numpy.typing as npt

from interlock.codec.columns import Columns, decode, is_text
from interlock.codec.framing import HEADER_BYTES, unframe
from interlock.codec.plan import Plan
from interlock.codec.ragged import Ragged
from interlock.errors import Poison, Reason
from interlock.kafka.partition import Taken, TopicPartition
from interlock.signature import Matrix, Signature
from interlock_router.features import Joined, Used, nothing_known
from interlock_router.model import Rows

_OFFSET = attrgetter("offset")
_TIMESTAMP = attrgetter("timestamp")
_KEY = attrgetter("key")
_VALUE = attrgetter("value")

Plans = Callable[[int], Awaitable[Plan | None]]


class Request(Protocol):
    """What a batch needs of a Kafka record."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


@dataclass(frozen=True)
class Rejection:
    """Why a request gets no score."""

    reason: Reason
    detail: str


@dataclass
class Group:
    """The requests of a batch that were written with one schema."""

    schema_id: int
    rows: Rows
    columns: Columns


@dataclass(frozen=True)
class Share:
    """The rows of a batch, from `begin` to before `end`, that came from one partition."""

    source: TopicPartition
    begin: int
    end: int


@dataclass
class Batch:
    """Requests, partition by partition, in the order of their offsets; all arrays have one entry per request."""

    records: Sequence[Request]
    shares: Sequence[Share]
    request_ids: list[bytes] | Ragged
    requested_at: npt.NDArray[np.int64]
    schema_ids: npt.NDArray[np.int64]
    groups: list[Group] = field(default_factory=list)
    rejections: dict[int, Rejection] = field(default_factory=dict)
    joined: Joined | None = None  # what was looked up; None where no version asked for it

    def part(self, share: Share) -> Batch:
        """Return the requests of one partition as a batch of their own, to be told of: it has no features."""
        if len(self.shares) == 1:
            return self
        begin, end = share.begin, share.end
        ids = self.request_ids
        part = Batch(
            self.records[begin:end],
            [Share(share.source, 0, end - begin)],
            ids.some(slice(begin, end)) if isinstance(ids, Ragged) else ids[begin:end],
            self.requested_at[begin:end],
            self.schema_ids[begin:end],
            rejections={row - begin: each for row, each in self.rejections.items() if begin <= row < end},
            joined=None if self.joined is None else replace(self.joined, places=self.joined.places[begin:end]),
        )
        part.__dict__["contents"] = None if self.contents is None else self.contents.some(slice(begin, end))
        return part

    @cached_property
    def offsets(self) -> npt.NDArray[np.int64]:
        """The offsets of requests that are of one partition."""
        records, count = self.records, len(self.records)
        if count and records[-1].offset - records[0].offset == count - 1:  # they rise, so none is left out between
            return np.arange(records[0].offset, records[0].offset + count)
        return np.fromiter(map(_OFFSET, records), dtype=np.int64, count=count)

    @cached_property
    def timestamps(self) -> npt.NDArray[np.int64]:
        """When the requests were written, in milliseconds since 1970."""
        return np.fromiter(map(_TIMESTAMP, self.records), dtype=np.int64, count=len(self.records))

    @cached_property
    def record_keys(self) -> list[bytes | None]:
        """The records' keys."""
        return list(map(_KEY, self.records))

    @cached_property
    def values(self) -> list[bytes | None]:
        """The records' values."""
        return list(map(_VALUE, self.records))

    @cached_property
    def contents(self) -> Ragged | None:
        """The records' values as one column; None where a record has none."""
        try:
            return Ragged.of(self.values)  # type: ignore[arg-type]  # see below
        except TypeError:  # there is a None, as seldom happens
            return None

    @cached_property
    def ids(self) -> Ragged:
        """The request ids as one column; to be asked for when the batch is read."""
        return self.request_ids if isinstance(self.request_ids, Ragged) else Ragged.of(self.request_ids)

    @property
    def good(self) -> Rows:
        """The requests that nothing has been found against yet."""
        if not self.rejections:
            return np.arange(len(self.records))
        mask = np.ones(len(self.records), dtype=np.bool_)
        mask[list(self.rejections)] = False
        return np.flatnonzero(mask)

    def keys(self, rows: Rows) -> list[bytes]:
        """Return what decides the arm: the record's key, or the request id of a record without one."""
        keys = self.record_keys if rows.size == len(self.records) else [self.record_keys[row] for row in rows.tolist()]
        if None not in keys:
            return keys  # type: ignore[return-value]  # no None
        return [id_ if key is None else key for key, id_ in zip(keys, self.ids.some(rows), strict=True)]

    def used(self, signature: Signature) -> Used:
        """Return the online inputs as a version is given them: defaults, where nothing was looked up."""
        known = self.joined if self.joined is not None else nothing_known(len(self.records), 0)
        return known.used(signature)

    def matrix(self, signature: Signature, rows: Rows) -> tuple[Matrix, Rows, dict[int, Rejection]]:
        """Return the features of the rows as a version wants them, online inputs as they were looked up.

        The matrix is float64 (rows, inputs); beside it the rows that it holds, and a rejection for each row that
        lacks a feature that the version cannot do without.
        """
        if (as_it_lies := self._block(signature, rows)) is not None:
            return as_it_lies, rows, {}
        whole = np.full((len(self.records), len(signature.inputs)), np.nan)
        if signature.online:
            places = [index for index, each in enumerate(signature.inputs) if each.online]
            whole[:, places] = self.used(signature).values
        lacking: dict[int, Rejection] = {}
        for group in self.groups:
            for index, wanted in enumerate(signature.inputs):
                if wanted.online:
                    continue
                found = group.columns.feature(wanted.name, wanted.categories)
                if found is not None:
                    whole[group.rows, index] = found[0]
                if wanted.nullable:
                    continue
                missing = group.rows if found is None else group.rows[found[1]]
                for row in missing.tolist():
                    lacking.setdefault(row, Rejection(Reason.MISSING_FEATURE, f"the feature {wanted.name} is missing"))
        if lacking:
            asked = set(rows.tolist())
            lacking = {row: rejection for row, rejection in lacking.items() if row in asked}
            rows = np.array([row for row in rows.tolist() if row not in lacking], dtype=np.intp)
        return (whole if rows.size == len(self.records) else whole[rows]), rows, lacking

    def _block(self, signature: Signature, rows: Rows) -> Matrix | None:
        """Return the features of the rows where the one schema has them as they are wanted and none is missing."""
        if len(self.groups) != 1 or self.groups[0].rows.size != len(self.records) or signature.online:
            return None
        if any(each.categories is not None for each in signature.inputs):
            return None
        whole = self.groups[0].columns.matrix(tuple(each.name for each in signature.inputs))
        if whole is None:
            return None
        found = whole if rows.size == len(self.records) else whole[rows]
        return None if np.isnan(found).any() else found


async def read(taken: Sequence[Taken], plans: Plans, request_bytes_max: int) -> Batch:
    """Read a batch; what is wrong with a request is its rejection. Raises Transient while a schema cannot be had."""
    records = taken[0].records if len(taken) == 1 else [record for each in taken for record in each.records]
    ends = list(accumulate(len(each.records) for each in taken))
    count = ends[-1]
    batch = Batch(
        records,
        [Share(each.source, end - len(each.records), end) for each, end in zip(taken, ends, strict=True)],
        request_ids=[b""] * count,
        requested_at=np.zeros(count, dtype=np.int64),
        schema_ids=np.zeros(count, dtype=np.int64),
    )
    batch.requested_at = batch.timestamps.copy()  # until the requests say otherwise
    for frame, rows in _by_frame(batch, request_bytes_max).items():
        await _read_frame(batch, frame, np.array(rows, dtype=np.intp), plans)
    return batch


def _by_frame(batch: Batch, request_bytes_max: int) -> dict[bytes, Sequence[int]]:
    """Sort the requests by the five bytes they begin with, and reject those without a value or with too large a one."""
    if (frame := _only_frame(batch.contents, request_bytes_max)) is not None:
        return {frame: range(len(batch.values))}
    frames: dict[bytes, list[int]] = {}
    for row, value in enumerate(batch.values):
        if value is None:
            batch.rejections[row] = Rejection(Reason.EMPTY, "the record has no value")
        elif len(value) > request_bytes_max:
            detail = f"{len(value)} bytes; the router takes at most {request_bytes_max}"
            batch.rejections[row] = Rejection(Reason.TOO_LARGE, detail)
        else:
            frames.setdefault(value[:HEADER_BYTES], []).append(row)
    return dict(frames)


def _only_frame(contents: Ragged | None, request_bytes_max: int) -> bytes | None:
    """Return the five bytes that all values begin with; None where they differ, or where a value will not do."""
    if contents is None or not len(contents) or int(contents.lengths.max()) > request_bytes_max:
        return None
    first = contents[0][:HEADER_BYTES]
    if int(contents.lengths.min()) < HEADER_BYTES:
        return first if len(contents) == 1 else None
    heads = contents.buffer[contents.starts[:, None] + np.arange(HEADER_BYTES)]
    return first if bool((heads == np.frombuffer(first, dtype=np.uint8)).all()) else None


async def _read_frame(batch: Batch, frame: bytes, rows: Rows, plans: Plans) -> None:
    try:
        schema_id, _ = unframe(frame)
    except Poison as poison:
        batch.rejections.update(dict.fromkeys(rows.tolist(), Rejection(poison.reason, poison.detail)))
        return
    batch.schema_ids[rows] = schema_id
    plan = await plans(schema_id)
    if plan is None:
        rejection = Rejection(Reason.UNKNOWN_SCHEMA, f"schema id {schema_id} is not registered")
        batch.rejections.update(dict.fromkeys(rows.tolist(), rejection))
        return
    whole = rows.size == len(batch.records) and batch.contents is not None
    values = batch.contents if whole else [batch.values[row] or b"" for row in rows.tolist()]
    columns = decode(values, plan, HEADER_BYTES)  # type: ignore[arg-type]  # `whole` says that there are contents
    batch.groups.append(Group(schema_id, rows, columns))
    _take_envelope(batch, rows, columns)
    for index, reason, where in columns.faults.items():
        batch.rejections[int(rows[index])] = Rejection(reason, f"schema {schema_id}: at {where}")


def _take_envelope(batch: Batch, rows: Rows, columns: Columns) -> None:
    """Take request ids and times from the columns; of records at fault only what is sound."""
    spans = columns.spans("request_id")
    if spans is not None and rows.size == len(batch.records) and not columns.faults:
        batch.request_ids = spans
    elif (texts := columns.texts("request_id")) is not None:
        request_ids = list(batch.request_ids)
        for row, text in zip(rows.tolist(), texts, strict=True):
            if text is not None and (not columns.faults or is_text(text)):
                request_ids[row] = text
        batch.request_ids = request_ids
    times = columns.longs("requested_at")
    if times is not None:
        faultless = ~columns.faults.mask
        batch.requested_at[rows[faultless]] = times[faultless]
