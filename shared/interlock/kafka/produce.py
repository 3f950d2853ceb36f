"""Produce requests written in one piece.

The driver joins a request from the inside out and so copies every record batch eight times; for transactions of a
megabyte and more that is a good part of what they cost. The bytes are the same.
"""

from __future__ import annotations

import struct
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.producer.sender import Sender, SendProduceReqHandler
from aiokafka.protocol.produce import ProduceRequest

from interlock.kafka.prepared import Pieces


class WholeRequest(ProduceRequest):  # type: ignore[misc]  # the driver has no annotations
    """A produce request of version 3 or later, which differ in nothing but their answers."""

    def build(self, request_struct_class: Any) -> Any:
        """Return the request of a version, ready to encode itself."""
        built = super().build(request_struct_class)
        if request_struct_class.API_VERSION >= 3:
            built.encode = lambda: Body(
                encoded(self._transactional_id, self._required_acks, self._timeout, self._topics), befores=2
            )
        return built


class ProduceHandler(SendProduceReqHandler):  # type: ignore[misc]  # the driver has no annotations
    """The driver's handler of produce requests, with a request that encodes itself in one piece."""

    request: type[Any] = WholeRequest
    """The request's class, made of transactional id, acks, time-out and topics."""

    def create_request(self) -> Any:
        """Return the request for the handler's batches."""
        plain = super().create_request()
        return self.request(plain._transactional_id, plain._required_acks, plain._timeout, plain._topics)  # noqa: SLF001 - taken over as it is


class WholeSender(Sender):  # type: ignore[misc]  # the driver has no annotations
    """The driver's sender with the handler above."""

    retry_seconds = 0.1
    """How soon a record batch is sent again where the broker only needs a moment."""

    produce_handler = ProduceHandler

    @classmethod
    def replacing(cls, producer: AIOKafkaProducer) -> Self:
        """Build the sender that takes the place of a producer's own, before it starts."""
        plain = producer._sender  # noqa: SLF001 - the driver has no other way
        return cls(
            plain.client,
            acks=plain._acks,  # noqa: SLF001 - as above
            txn_manager=plain._txn_manager,  # noqa: SLF001 - as above
            message_accumulator=plain._message_accumulator,  # noqa: SLF001 - as above
            retry_backoff_ms=plain._retry_backoff * 1000,  # noqa: SLF001 - as above
            request_timeout_ms=plain._request_timeout_ms,  # noqa: SLF001 - as above
        )

    async def _send_produce_req(self, node_id: int, batches: Any) -> None:
        handler = self.produce_handler(self, batches)
        handler._default_backoff = self.retry_seconds  # noqa: SLF001 - the driver has no other way
        await handler.do(node_id)
        self._in_flight.remove(node_id)
        for each in batches:
            self._muted_partitions.remove(each)


class Body:
    """A request's body in pieces, before which the driver puts a header, and before all that a size: `befores` is 2.

    With the last of them the pieces are joined; until then nothing is copied.
    """

    def __init__(self, pieces: list[Any], befores: int) -> None:
        self._pieces = pieces
        self._befores = befores

    def __len__(self) -> int:
        return sum(map(len, self._pieces))

    def __radd__(self, before: bytes) -> Body | bytes:
        pieces = [before, *self._pieces]
        return Body(pieces, self._befores - 1) if self._befores > 1 else b"".join(pieces)


def encoded(
    transactional_id: str | None, acks: int, timeout_milliseconds: int, topics: list[tuple[str, list[tuple[int, Any]]]]
) -> list[Any]:
    """Return a produce request's body in pieces, versions 3 to 8."""
    pieces: list[Any] = [
        _text(transactional_id),
        struct.pack(">hii", acks, timeout_milliseconds, len(topics)),
    ]
    for topic, partitions in topics:
        pieces += [_text(topic), struct.pack(">i", len(partitions))]
        for partition, batch in partitions:
            pieces.append(struct.pack(">ii", partition, len(batch)))
            pieces += batch.parts if isinstance(batch, Pieces) else [batch]
    return pieces


def _text(text: str | None) -> bytes:
    if text is None:
        return struct.pack(">h", -1)
    content = text.encode()
    return struct.pack(">h", len(content)) + content
