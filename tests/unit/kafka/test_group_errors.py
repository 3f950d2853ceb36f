"""What the consumers of this house do with answers that the driver misreads."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.errors import GroupLoadInProgressError
from aiokafka.protocol.commit import OffsetFetchResponse_v3

from interlock.kafka.consumer import make_consumer
from interlock.settings import PlatformSettings

LOADING = 14


async def test_coordinator_that_still_loads_is_not_taken_for_a_group_without_offsets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An OffsetFetch answer with an error for the whole group and no partitions is raised, as one to be tried again."""
    answers: list[Any] = [
        OffsetFetchResponse_v3(0, [], LOADING),
        OffsetFetchResponse_v3(0, [("t", [(0, 7, "", 0)])], 0),
    ]

    async def answer(*_arguments: Any, **_more: Any) -> Any:
        return answers.pop(0)

    monkeypatch.setattr("aiokafka.client.AIOKafkaClient.send", answer)
    consumer = make_consumer(PlatformSettings(), "group")
    try:
        with pytest.raises(GroupLoadInProgressError) as raised:
            await consumer._client.send(1, "an OffsetFetch request")
        assert raised.value.retriable
        assert (await consumer._client.send(1, "an OffsetFetch request")).topics
    finally:
        await consumer.stop()
