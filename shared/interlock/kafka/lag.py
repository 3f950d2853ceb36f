"""How far a consumer is behind, by what its last fetches said; the broker is not asked."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer

from interlock.kafka.partition import TopicPartition

__all__ = ["TopicPartition", "lags"]


def lags(consumer: AIOKafkaConsumer) -> dict[TopicPartition, int | None]:
    """Return for each assigned partition how many offsets lie between the last record given out and the stable end.

    None where nothing was fetched yet. Markers and aborted records count as given out once the driver has skipped them.
    May be called from another thread: only numbers are read.
    """
    subscription = consumer._subscription.subscription  # noqa: SLF001 - the public call for a position waits
    assignment = subscription.assignment if subscription is not None else None
    found: dict[TopicPartition, int | None] = {}
    if assignment is None:
        return found
    for partition in assignment.tps:
        state = assignment.state_value(partition)
        known = state is not None and state.has_valid_position and state.lso is not None and state.lso >= 0
        found[partition] = max(0, state.lso - state.position) if known else None
    return found
