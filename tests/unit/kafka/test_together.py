"""Which partitions make a set, and an assignor that never divides one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from hypothesis import given
from hypothesis import strategies as st

from interlock.kafka.together import assignor, sets


class _Cluster:
    """Topics and how many partitions each has."""

    def __init__(self, topics: dict[str, int]) -> None:
        self._topics = topics

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        """Return a topic's partitions, None where it is not there."""
        count = self._topics.get(topic)
        return None if count is None else set(range(count))


def _assigned(size: int, topics: dict[str, int], members: dict[str, list[str]]) -> dict[str, list[TopicPartition]]:
    cluster: Any = _Cluster(topics)
    told = {name: ConsumerProtocolMemberMetadata(0, wanted, b"") for name, wanted in members.items()}
    divided = assignor(size).assign(cluster, told)
    return {name: each.partitions() for name, each in divided.items()}


def _numbers(topic: str, *numbers: int) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for number in numbers]


def test_neighbours_make_a_set_and_a_topic_that_grows_moves_none() -> None:
    """The last set of five partitions has one; the sixth fills it."""
    five = sets(_numbers("a", 4, 2, 0, 3, 1), 2)
    assert [[each.partition for each in those] for those in five] == [[0, 1], [2, 3], [4]]
    six = sets(_numbers("a", *range(6)), 2)
    assert six[:2] == five[:2] and six[2][0] == five[2][0]
    assert sets([*_numbers("b", 0), *_numbers("a", 1)], 2) == [(TopicPartition("a", 1),), (TopicPartition("b", 0),)]


@given(
    size=st.integers(1, 5),
    topics=st.dictionaries(st.sampled_from("abc"), st.integers(1, 12), min_size=1),
    members=st.integers(1, 6),
)
def test_every_partition_is_assigned_once_and_no_set_is_divided(
    size: int, topics: dict[str, int], members: int
) -> None:
    """Whatever the sizes; and no member has two sets more than another."""
    wanted = [*topics, "missing"]
    found = _assigned(size, topics, {f"m{number}": wanted for number in range(members)})
    every = [each for mine in found.values() for each in mine]
    assert sorted(every) == sorted(each for name, count in topics.items() for each in _numbers(name, *range(count)))
    whole = {frozenset(those) for those in sets(every, size)}
    assert {frozenset(those) for mine in found.values() for those in sets(mine, size)} == whole
    counts = Counter({name: len(sets(mine, size)) for name, mine in found.items()})
    assert max(counts.values()) - min(counts.values()) <= 1


def test_a_member_gets_nothing_of_a_topic_that_it_does_not_want() -> None:
    """Also where the others have more to do then."""
    found = _assigned(2, {"a": 4, "b": 4}, {"one": ["a"], "both": ["a", "b"]})
    assert {each.topic for each in found["one"]} == {"a"}
    assert set(_numbers("b", 0, 1, 2, 3)) <= set(found["both"])


@pytest.mark.parametrize("size", [1, 2, 7])
def test_the_name_tells_the_size(size: int) -> None:
    """By it Kafka refuses a member that would divide in another way."""
    assert str(size) in assignor(size).name
    assert assignor(size).name != assignor(size + 1).name
