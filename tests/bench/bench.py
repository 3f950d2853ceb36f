"""One run of the bench: its stack, its requests, its deployed versions, and what all scenarios note down."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from interlock.schemas import endpoint_topic, endpoint_topics
from interlock.schemas.topics import ENDPOINT_REQUESTS
from interlock_router.settings import Settings
from tests.bench import contenders, serving, topics, work
from tests.bench.findings import Finding
from tests.bench.processes import Failed, Surroundings
from tests.bench.rounds import Arena, Contender, Drained, Entry, interleaved
from tests.bench.topics import Kafka

FAILURE_CHARACTERS_MAX: Final = 300


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    out: Path
    rounds: int
    requests: int
    quick: bool


@dataclass
class Bench:
    """What scenarios share."""

    options: Options
    environment: dict[str, str]
    schema_registry: str
    findings: list[Finding] = field(default_factory=list)
    drained: dict[str, list[Drained]] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    """What a scenario measured beside its findings, for the report: JSON."""
    made: set[str] = field(default_factory=set)
    """What scenarios have made once for the whole run."""
    missing: list[str] = field(default_factory=list)
    """Findings that no round gave."""
    notes: dict[str, str] = field(default_factory=dict)
    """Why a scenario, or a part of it, was left out or is to be read with care."""

    @cached_property
    def kafka(self) -> Kafka:
        """The broker."""
        return Kafka(self.environment["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"])

    @cached_property
    def arena(self) -> Arena:
        """Where rounds take place."""
        surroundings = Surroundings(Path(self.environment["INTERLOCK_HOME"]))
        return Arena(self.kafka, surroundings, self.options.out / "logs")

    @cached_property
    def schema_file(self) -> Path:
        """The file of the requests' schema."""
        path = self.options.out / "request.avsc"
        path.write_text(json.dumps(work.SCHEMA))
        return path

    @cached_property
    def requests(self) -> str:
        """The topic of preloaded requests, of the endpoint that the lanes answer; it is filled anew for each run."""
        self.endpoint(work.ENDPOINT)
        topic = endpoint_topic(ENDPOINT_REQUESTS, work.ENDPOINT)
        self.preload(topic, self.options.requests)
        return topic

    def endpoint(self, name: str) -> None:
        """Make the topics of an endpoint anew."""
        names = [topic.name for topic in endpoint_topics(name, work.PARTITIONS)]
        self.kafka.delete_known(names)
        topics.endpoint(self.kafka.bootstrap, name, work.PARTITIONS)

    def preload(self, topic: str, count: int) -> None:
        """Write requests 0 to `count` to a topic that is empty."""
        began = time.monotonic()
        self.kafka.produce(topic, (work.request(number) for number in range(count)), work.keys(count))
        self.say(f"{count} requests preloaded into {topic} in {time.monotonic() - began:.1f} s")

    def arms(self, versions: int = 1) -> list[dict[str, Any]]:
        """Return the arms of a route over that many deployed versions."""
        if versions not in self._arms:
            self._arms[versions] = serving.deployed(self.environment, versions)
        return self._arms[versions]

    @cached_property
    def _arms(self) -> dict[int, list[dict[str, Any]]]:
        return {}

    def lanes(self, name: str, versions: int = 1, *, shadows: int = 0, **settings: Any) -> Contender:
        """Return Interlock's lanes, with a number of versions, more in the shadow, and some settings changed."""
        arms = self.arms(versions)
        if shadows:
            arms = [*arms, *(arm | {"weight": 0} for arm in self.arms(versions + shadows)[versions:])]
        return contenders.lanes(name, self.environment, arms, self.schema_registry, **settings)

    def loop(self, kind: str) -> Contender:
        """Return a reference loop."""
        return contenders.loop(kind, self.schema_file)

    @property
    def has_at_least_once(self) -> bool:
        """Whether the router knows another guarantee than exactly once."""
        return "guarantee" in Settings.model_fields

    def entry(self, contender: Contender) -> Entry:
        """Return a contender's part in rounds over the preloaded requests."""
        return Entry(contender, self.requests, self.options.requests)

    def rounds(self, scenario: str, entries: Sequence[Entry]) -> list[Drained]:
        """Run interleaved rounds and note them."""
        found = interleaved(self.arena, entries, self.options.rounds, self.note(scenario), self.failed(scenario))
        self.drained.setdefault(scenario, []).extend(found)
        return found

    def peak(self) -> float:
        """Return the lanes' rate at saturation: the median of the rounds so far, or of one made now."""
        if "lanes" not in {each.contender for each in self.drained.get("rate", ())}:
            drained = self.arena.drain(self.entry(self.lanes("lanes")), 0)
            self.note("peak")(drained)
            self.drained.setdefault("peak", []).append(drained)
        found = [each for name in ("rate", "peak") for each in self.drained.get(name, ())]
        return statistics.median(each.events_per_second for each in found if each.contender == "lanes")

    def note(self, scenario: str) -> Callable[[Drained], None]:
        """Return what tells a person about each round."""

        def tell(drained: Drained) -> None:
            faults = f", LOST {drained.lost}, DOUBLE {drained.duplicated}, WRONG {drained.wrong_scores}"
            self.say(
                f"{scenario} {drained.round}: {drained.contender:14} {drained.events_per_second:9,.0f} events/s, "
                f"{drained.cpu_microseconds:6.2f} us own, {drained.ray_cpu_microseconds:5.2f} Ray, "
                f"{drained.kafka_cpu_microseconds:5.2f} Kafka, {drained.foreign_cores:4.2f} cores foreign"
                f"{faults if drained.lost or drained.duplicated or drained.wrong_scores else ''}"
            )

        return tell

    def failed(self, scenario: str) -> Callable[[str, int, Failed], None]:
        """Return what tells that a contender failed in a round, and keeps it for the report."""

        def tell(contender: str, number: int, failure: Failed) -> None:
            self.notes[f"{scenario} {number}"] = f"{contender} failed: {str(failure)[:FAILURE_CHARACTERS_MAX]}"
            self.say(f"{scenario} {number}: {contender} FAILED: {failure}")

        return tell

    def find(self, finding: Finding) -> None:
        """Keep a finding, and tell it; one without a single round is noted as missing."""
        if not finding.values:
            self.missing.append(finding.name)
            self.notes[finding.name] = f"not measured: {finding.what}"
            return
        self.findings.append(finding)
        self.say("=> " + finding.line())

    def say(self, text: str) -> None:
        """Tell a person how far it is."""
        sys.stderr.write(f"[{time.strftime('%H:%M:%S')}] {text}\n")
        sys.stderr.flush()


def ratios(drained: Sequence[Drained], above: str, below: str, figure: Callable[[Drained], float]) -> tuple[float, ...]:
    """Return, round by round, one contender's figure over another's; a round that lacks one of them is left out."""
    by_round = {(each.contender, each.round): figure(each) for each in drained}
    numbers = [each.round for each in drained if each.contender == above and (below, each.round) in by_round]
    return tuple(by_round[above, number] / by_round[below, number] for number in sorted(numbers))
