"""The peers in the bench: each in its own environment, set up by the bench itself, on the same requests and model."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.bench import work
from tests.bench.bench import Bench, ratios
from tests.bench.findings import Finding
from tests.bench.peers import contenders, environments
from tests.bench.rounds import Contender, Drained, Entry
from tests.bench.topics import Kafka

REQUESTS: Final = {"mlserver": 10_000, "faust": 20_000, "quix": 60_000}
"""What the slow ones are given, so that a round of theirs lasts about as long as everybody else's."""
REQUESTS_MAX: Final = 100_000
QUICK_SHARE: Final = 4
PATIENCE_SECONDS: Final = 5.0
"""Requests without an answer for so long are lost: the next are sent."""
DECODED: Final = "decoded record by record, as its users do"
REQUESTED_AT: Final = 1_700_000_000_000


class Feeder:
    """Sends requests so that never more than some are unanswered, for a peer that loses what comes faster."""

    def __init__(self, count: int, unanswered_max: int) -> None:
        self._count = count
        self._unanswered_max = unanswered_max
        self._given_up = 0
        self._answered = 0
        self._moved_at = time.monotonic()

    def __call__(self, kafka: Kafka, topic: str, sent: int, answered: int) -> int:
        """Send what there is room for; return how many were sent in all."""
        now = time.monotonic()
        if sent == 0:
            self._given_up = self._answered = 0
        if answered != self._answered or sent == 0:
            self._answered, self._moved_at = answered, now
        elif now - self._moved_at > PATIENCE_SECONDS:
            self._given_up, self._moved_at = sent - answered, now
        room = min(self._count - sent, self._unanswered_max - (sent - answered - self._given_up))
        if room < min(self._unanswered_max // 2, self._count - sent):
            return sent
        producer = kafka.producer()
        for number in range(sent, sent + room):
            value = contenders.encode_v2(work.name(number), REQUESTED_AT, work.rows()[number % work.ROWS].tolist())
            # No key: MLServer would take it for the request's name. So the partition is told.
            producer.produce(topic, value=value, headers=contenders.V2_HEADERS, partition=number % work.PARTITIONS)
        assert producer.flush(PATIENCE_SECONDS * 2) == 0
        return sent + room


def entry(bench: Bench, peer: contenders.Contender) -> Entry:
    """Return a prepared peer's part in rounds, with requests of its own number."""
    count = REQUESTS.get(peer.name, REQUESTS_MAX)
    count = min(count // QUICK_SHARE if bench.options.quick else count, bench.options.requests)
    fed = peer.reads_from == "latest"
    topic = f"bench.peers.{peer.name}" if fed else f"bench.peers.{count}"
    if topic not in bench.made:
        bench.kafka.delete_known([topic])
        bench.kafka.create([topic], work.PARTITIONS)
        if not fed:
            bench.preload(topic, count)
        bench.made.add(topic)
    feeder = Feeder(count, peer.unanswered_max or count) if fed else None
    return Entry(_contender(peer, bench.schema_file, feeder), topic, count)


def _contender(
    peer: contenders.Contender, schema: Path, feeder: Callable[[Kafka, str, int, int], int] | None
) -> Contender:
    def command(kafka: Kafka, requests: str, results: str, group: str) -> list[str]:
        return contenders.command(
            peer.name,
            bootstrap=kafka.bootstrap,
            requests=requests,
            results=results,
            group=group,
            model=work.model_file(),
            schema=schema,
            partitions=work.PARTITIONS,
        )

    def score(value: bytes) -> float:
        return contenders.read_result(peer.name, value)[1]

    return Contender(peer.name, peer.guarantee, command, contenders.environment(), score=score, feed=feeder)


def _cpu(drained: Drained) -> float:
    """Return the processor time of all that works for a contender: for our router that is Ray too."""
    ray = drained.ray_cpu_microseconds if drained.contender == "lanes" else 0.0
    return drained.cpu_microseconds + ray


def peers(bench: Bench) -> None:
    """The exactly-once rate against what else runs on Kafka today, each peer as its users would run it."""
    entries = [bench.entry(bench.lanes("lanes"))]
    ready: list[contenders.Contender] = []
    for peer in contenders.CONTENDERS:
        try:
            environments.prepare(peer.name, bench.say)
        except environments.CannotInstall as error:
            bench.notes[peer.name] = f"left out, its environment cannot be set up: {error}"
            bench.say(bench.notes[peer.name])
            continue
        entries.append(entry(bench, peer))
        ready.append(peer)
    found = bench.rounds("peers", entries)
    for peer in ready:
        faults = [each for each in found if each.contender == peer.name and (each.lost or each.duplicated)]
        lost, doubled = sum(each.lost for each in faults), sum(each.duplicated for each in faults)
        bench.find(
            Finding(
                peer.name,
                f"exactly-once rate, against {peer.title} {peer.version} ({peer.guarantee})",
                ratios(found, "lanes", peer.name, lambda each: each.events_per_second),
                must=peer.must,
                hope=peer.hope,
                note=DECODED + (f"; it lost {lost}, doubled {doubled}" if faults else ""),
            )
        )
        bench.find(
            Finding(
                f"{peer.name} CPU",
                f"CPU for an event of {peer.title}'s processes, against our router and Ray together",
                ratios(found, peer.name, "lanes", _cpu),
            )
        )
