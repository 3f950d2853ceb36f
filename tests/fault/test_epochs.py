"""A producer whose epochs are used up: the next life goes on with another id, and nothing is lost or seen twice."""

from __future__ import annotations

import pytest
from aiokafka import TopicPartition

from interlock.ids import uuid7
from interlock.kafka.admin import ensure_topics
from interlock.kafka.transaction import Outgoing, PartitionTransactions, UsedUp
from interlock.kafka.transaction_sender import EPOCH_LAST
from interlock.schemas import endpoint_topics
from interlock.settings import PlatformSettings

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(1_800)]

TIMESTAMP = 1_700_000_000_000


async def test_thirty_two_thousand_transactions_of_one_producer(servers: dict[str, str]) -> None:
    """Every epoch that there is, on a real coordinator: the last one ends no transaction."""
    settings = PlatformSettings(kafka_bootstrap_servers=servers["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"])
    endpoint = f"epochs-{uuid7()[-12:]}"
    await ensure_topics(settings, endpoint_topics(endpoint, 1))
    results, source = f"{endpoint}.results", TopicPartition(f"{endpoint}.requests", 0)
    transactions = PartitionTransactions(settings, endpoint, [source], 10.0, 2**20)
    committed = 0

    async def commit(times: int) -> None:
        nonlocal committed
        for _ in range(times):
            await transactions.commit(
                lambda: [Outgoing(results, 0, [(b"k", b"v", [])])], {source: committed + 1}, TIMESTAMP
            )
            committed += 1

    await transactions.start([results])
    with pytest.raises(UsedUp):
        await commit(EPOCH_LAST + 1)
    assert committed in (EPOCH_LAST, EPOCH_LAST - 1)
    await transactions.discard()
    await transactions.start([results])
    await commit(1)
    await transactions.confirm()
    await transactions.discard()
