"""Neighbouring partitions stay together: which of them make a set, and an assignor that hands out whole sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor


def sets(partitions: Iterable[TopicPartition], size: int) -> list[tuple[TopicPartition, ...]]:
    """Put partitions into sets, each of neighbours: of size 2, the first two of a topic, the next two, and so on.

    A partition that a topic gets later opens a new set or fills the last: none ever moves to another one.
    """
    found: dict[tuple[str, int], list[TopicPartition]] = {}
    for each in sorted(partitions):
        found.setdefault((each.topic, each.partition // size), []).append(each)
    return [tuple(each) for each in found.values()]


def assignor(size: int) -> type[RoundRobinPartitionAssignor]:
    """Return the driver's round robin, for sets of `size` partitions in place of single ones.

    Its name tells the size: Kafka itself refuses a member that would divide a group in another way.
    """

    class Together(RoundRobinPartitionAssignor):  # type: ignore[misc]  # the driver has no annotations
        name = f"interlock.sets-of-{size}"

        @classmethod
        def assign(cls, cluster: ClusterMetadata, members: Mapping[str, Any]) -> dict[str, Any]:
            """Divide the first partition of each set, then let the rest follow."""
            divided: dict[str, Any] = super().assign(_Firsts(cluster, size), members)
            for member in divided.values():
                member.assignment = [
                    (topic, _whole(cluster, topic, firsts, size)) for topic, firsts in member.assignment
                ]
            return divided

    return Together


class _Firsts:
    """A cluster of which each set's first partition alone is known."""

    def __init__(self, cluster: ClusterMetadata, size: int) -> None:
        self._cluster = cluster
        self._size = size

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        """Return the first partitions of a topic's sets; None for a topic that is not there."""
        found = self._cluster.partitions_for_topic(topic)
        return None if found is None else {each for each in found if each % self._size == 0}


def _whole(cluster: ClusterMetadata, topic: str, firsts: Iterable[int], size: int) -> list[int]:
    mine = set(firsts)
    return [each for each in sorted(cluster.partitions_for_topic(topic) or ()) if each - each % size in mine]
