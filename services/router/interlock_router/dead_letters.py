"""Dead letters: requests that could not be scored, kept whole in the transaction that answers them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from interlock.codec import rows
from interlock.ids import request_name
from interlock.kafka.headers import cloudevents, parse
from interlock.kafka.prepared import Record
from interlock.schemas.events import DeadLetter, Header
from interlock_router.batch import Batch
from interlock_router.model import RouteTable
from interlock_router.results import Rejected

SOURCE = "/interlock/router"
DETAIL_CHARACTERS_MAX = 2000


def dead_letters(
    batch: Batch, table: RouteTable, topic: str, partition: int, rejected: Sequence[Rejected], at: datetime
) -> list[Record]:
    """Return the records for the endpoint's dead-letter topic, in the order of `rejected`."""
    return [
        _record(_dead_letter(batch, table, topic, partition, each, at), batch.records[each.row].headers)
        for each in rejected
    ]


def _dead_letter(
    batch: Batch, table: RouteTable, topic: str, partition: int, rejected: Rejected, at: datetime
) -> DeadLetter:
    request, arm = batch.records[rejected.row], rejected.arm
    return DeadLetter(
        name=request_name(topic, partition, request.offset),
        endpoint=table.endpoint,
        reason=rejected.rejection.reason.value,
        detail=rejected.rejection.detail[:DETAIL_CHARACTERS_MAX],
        topic=topic,
        partition=partition,
        offset=request.offset,
        timestamp=request.timestamp,
        key=request.key,
        value=request.value,
        headers=tuple(Header(name=name, value=value or b"") for name, value in request.headers),
        schema_id=int(batch.schema_ids[rejected.row]) or None,
        model=arm.model if arm else None,
        version=arm.version if arm else None,
        digest=arm.digest if arm else None,
        epoch=table.epoch,
        at=at,
    )


def _record(letter: DeadLetter, headers: Sequence[tuple[str, bytes]]) -> Record:
    """Frame a dead letter; its id is its name, so that a batch taken again says the same thing under the same id."""
    envelope = cloudevents(
        DeadLetter.TYPE,
        event_id=letter.name,
        source=SOURCE,
        at=letter.at,
        subject=letter.endpoint,
        traceparent=parse(headers).traceparent,
    )
    return letter.name.encode(), rows.encode(letter), envelope
