"""Records written once more, exactly once: to the partition they came from, in one transaction with how far one came.

A replay reads a partition in order, and its transactions carry the position behind what they hold, as a group's
offset. Whoever goes on later, whatever happened, goes on there. All replays of one topic share a transactional id per
partition, so a new one fences one that still runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from interlock.errors import Transient
from interlock.kafka import connection
from interlock.kafka.transaction import PartitionTransactions
from interlock.settings import PlatformSettings

REPLAY_OF: Final = "interlock-replay-of"
"""The header that names, as topic/partition/offset, the request that a record is a replay of."""

GROUPS: Final = "interlock.replay"
"""What the names of the groups begin with whose offsets say how far replays have come."""
TRANSACTION_SECONDS_MAX: Final = 30.0
BATCH_BYTES_MAX: Final = 1_048_576
ADMIN_SECONDS_MAX: Final = 20.0


@dataclass(frozen=True)
class Again:
    """A record to be written again, to the partition of the same number as the one it is read from."""

    name: str
    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]

    def marked(self) -> list[tuple[str, bytes]]:
        """Return the headers with the mark; of a replay of a replay only the newest mark stays."""
        return [each for each in self.headers if each[0] != REPLAY_OF] + [(REPLAY_OF, self.name.encode())]


class ReplayTransactions(PartitionTransactions):
    """The transactions of a replay of one partition, by a producer that is never mended."""

    def __init__(self, settings: PlatformSettings, group: str, source: TopicPartition) -> None:
        super().__init__(settings, group, [source], TRANSACTION_SECONDS_MAX, BATCH_BYTES_MAX)

    @property
    def family(self) -> str:
        """What the transactional ids begin with: the same for every replay of a partition, whatever it chooses."""
        return GROUPS

    async def write(self, records: Sequence[Again], next_offset: int, timestamp: int) -> None:
        """Write the records and the position behind them in one transaction, bounded by TRANSACTION_SECONDS_MAX.

        `timestamp` (milliseconds) stamps every record. Raises Fenced where another replay appeared, else Doubtful.
        """
        [source] = self._sources
        await self._commit(
            partial(_packed, self._running(), source.partition, records, timestamp), {source: next_offset}
        )


def _packed(
    producer: AIOKafkaProducer, partition: int, records: Sequence[Again], timestamp: int
) -> list[tuple[TopicPartition, Any]]:
    """Pack records into as few batches as fit, in order; a record larger than a batch gets one of its own.

    By the driver, record by record: a dead letter may have had no value, which `prepared` has no columns for.
    """
    found: list[tuple[TopicPartition, Any]] = []
    for each in records:
        content = {"timestamp": timestamp, "key": each.key, "value": each.value, "headers": each.marked()}
        if found and found[-1][0].topic == each.topic and found[-1][1].append(**content) is not None:
            continue
        builder = producer.create_batch()
        builder.append(**content)
        found.append((TopicPartition(each.topic, partition), builder))
    for _, builder in found:
        builder.close()
    return found


async def positions(settings: PlatformSettings, prefix: str, source: TopicPartition) -> Mapping[str, int]:
    """Return how far each group whose name begins with `prefix` has come in a partition; raises Transient.

    What a transaction left open is not in it: the partition's transactions are to be started before.
    """
    admin = AIOKafkaAdminClient(**connection(settings))
    found: dict[str, int] = {}
    try:
        async with asyncio.timeout(ADMIN_SECONDS_MAX):
            await admin.start()
            groups = sorted(name for name, *_ in await admin.list_consumer_groups() if name.startswith(prefix))
            for group in groups:
                offsets = await admin.list_consumer_group_offsets(group, partitions=[source])
                if (offset := offsets[source].offset) >= 0:
                    found[group] = offset
    except (KafkaError, OSError, TimeoutError) as error:
        raise Transient(f"how far replays have come is unknown: {type(error).__name__}: {error}") from error
    finally:
        await admin.close()
    return found
