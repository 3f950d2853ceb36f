"""Records written once more: to the partition they came from, marked with the name of what they are a replay of."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from aiokafka.errors import KafkaError

from interlock.errors import Transient
from interlock.kafka.closing import closed
from interlock.kafka.producer import make_producer
from interlock.settings import PlatformSettings

REPLAY_OF = "interlock-replay-of"
"""The header that names, as topic/partition/offset, the request that a record is a replay of."""

RECORD_BYTES_MAX = 16 * 1024 * 1024
CLOSE_SECONDS_MAX = 5.0


@dataclass(frozen=True)
class Again:
    """A record to be written again."""

    name: str
    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]

    def marked(self) -> list[tuple[str, bytes]]:
        """Return the headers with the mark; of a replay of a replay only the newest mark stays."""
        return [each for each in self.headers if each[0] != REPLAY_OF] + [(REPLAY_OF, self.name.encode())]


async def replay(settings: PlatformSettings, records: Sequence[Again]) -> None:
    """Write the records again, in their order, and wait until Kafka has them all; raises Transient where it has not.

    A tombstone without a key cannot be written; such a record is left out by the caller.
    """
    producer = make_producer(settings, max_request_size=RECORD_BYTES_MAX)
    try:
        await producer.start()
        sent = [
            await producer.send(each.topic, each.value, key=each.key, partition=each.partition, headers=each.marked())
            for each in records
        ]
        await asyncio.gather(*sent)
    except (KafkaError, OSError) as error:
        raise Transient(f"Kafka did not take every record: {type(error).__name__}: {error}") from error
    finally:
        await closed(producer, CLOSE_SECONDS_MAX)
