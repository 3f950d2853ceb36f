"""A consumer group's coordinator: who is in, which generation it is, and who has which partition."""

from __future__ import annotations

from dataclasses import dataclass

from interlock.kafka.partition import TopicPartition
from interlock.kafka.together import sets
from tests.simulation.kafka import Cluster, Place


@dataclass
class _Member:
    heard_at: float
    topics: tuple[str, ...] = ()
    together: int = 1
    generation: int = -1


class Group:
    """The coordinator. A member that is silent for a session is out; every change makes all of them join anew."""

    def __init__(self, cluster: Cluster, session_seconds: float) -> None:
        self._cluster = cluster
        self._session_seconds = session_seconds
        self._members: dict[str, _Member] = {}
        self._shares: dict[str, list[Place]] | None = None
        self._since = 0.0
        self.generation = 0
        self._look()

    def beat(self, member: str) -> int:
        """Note a sign of life; return the generation, or -2 for one who is not known and must join."""
        known = self._members.get(member)
        if known is None:
            return -2
        known.heard_at = self._cluster.loop.time()
        return self.generation

    def join(self, member: str, topics: tuple[str, ...], together: int = 1) -> int:
        """Take part in the current generation, or begin one."""
        now = self._cluster.loop.time()
        known = self._members.get(member)
        if (
            known is None
            or known.topics != topics
            or (self._shares is not None and known.generation != self.generation)
        ):
            self._members[member] = known = _Member(now, topics, together)
            self._change()
        known.heard_at, known.generation = now, self.generation
        return self.generation

    def share(self, member: str, generation: int) -> list[Place] | None:
        """Return the member's partitions, or None while not all have joined."""
        if generation != self.generation:
            return None
        if self._shares is None and all(each.generation == generation for each in self._members.values()):
            self._divide()
        return self._shares.get(member) if self._shares is not None else None

    def leave(self, member: str) -> None:
        """Forget a member."""
        if self._members.pop(member, None) is not None:
            self._change()

    def _change(self) -> None:
        self.generation += 1
        self._shares = None
        self._since = self._cluster.loop.time()

    def _divide(self) -> None:
        names = sorted(self._members)
        self._cluster.loop.chance.shuffle(names)
        self._shares = {name: [] for name in names}
        topics = {topic for each in self._members.values() for topic in each.topics}
        [together] = {each.together for each in self._members.values()}
        wanted = [TopicPartition(*place) for place in self._cluster.logs if place[0] in topics]
        for number, those in enumerate(sets(wanted, together)):
            self._shares[names[number % len(names)]] += [tuple(each) for each in those]
        self._cluster.loop.note("group", f"generation={self.generation}", self._shares)

    def _look(self) -> None:
        """Put out whoever is silent, and whoever keeps a generation from beginning."""
        now = self._cluster.loop.time()
        for name, member in sorted(self._members.items()):
            silent = now - member.heard_at > self._session_seconds
            late = self._shares is None and member.generation != self.generation
            if silent or (late and now - self._since > self._session_seconds):
                self._cluster.loop.note("group", "puts out", name)
                self.leave(name)
        self._cluster.later(0.5, self._look)
