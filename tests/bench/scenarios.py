"""The entries of the table that are rates: who drains the same requests how fast, and at what cost of processor."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench import handover as handing_over
from tests.bench import latency as pacing
from tests.bench import overload as overloading
from tests.bench import rollout as switching
from tests.bench.bench import Bench, ratios
from tests.bench.competition import peers
from tests.bench.findings import Finding
from tests.bench.processes import Failed
from tests.bench.rounds import Drained

VERSIONS: Final = 10
STEADY_RATE: Final = 3_000.0
LONE_RATE: Final = 2.0
SECONDS: Final = 20.0
SECONDS_QUICK: Final = 6.0
OVERLOAD: Final = 1.5
OVERLOAD_SECONDS: Final = 300.0
OVERLOAD_SECONDS_QUICK: Final = 20.0
OVERLOAD_ROUNDS_MAX: Final = 3
FULL_SECONDS: Final = 60.0
ROOM_SECONDS_MAX: Final = 480.0
"""The broker looks every five minutes for what it may delete, and deletes it a minute later."""
DISK_BYTES: Final = 700
"""What a request of the overload takes on disk, results and all: the broker deletes no sooner than after minutes."""
SWITCHES: Final = 50
SWITCHES_QUICK: Final = 3
HANDOVERS: Final = 5
HANDOVERS_QUICK: Final = 1
TRACING_PASSES: Final = 24
TRACING_PASSES_QUICK: Final = 3
TRACING_SECONDS_MAX: Final = 1_800.0


def rate(bench: Bench) -> None:
    """Exactly once through Ray Serve against the bare loop, and the router's processor time against the echo's."""
    taking_part = [bench.loop("echo"), bench.loop("bare"), bench.lanes("lanes")]
    if bench.has_at_least_once:
        taking_part.append(bench.lanes("at-least-once", guarantee="at_least_once"))
    else:
        bench.notes["guarantee"] = (
            "The router has no setting `guarantee` yet: exactly once against at least once is left out."
        )
    found = bench.rounds("rate", [bench.entry(each) for each in taking_part])
    bench.find(
        Finding(
            "rate",
            "exactly-once rate through Ray Serve, against the bare transactional loop with the model inside",
            ratios(found, "lanes", "bare", _rate),
            must=0.95,
            hope=1.2,
        )
    )
    bench.find(
        Finding(
            "cpu",
            "router CPU for an event, against the transactional echo's",
            ratios(found, "lanes", "echo", _cpu),
            sense="at most",
            must=2.2,
            hope=1.5,
        )
    )
    if bench.has_at_least_once:
        bench.find(
            Finding(
                "guarantee",
                "exactly-once rate, against our own at least once",
                ratios(found, "lanes", "at-least-once", _rate),
                must=0.85,
                hope=0.93,
            )
        )


def versions(bench: Bench) -> None:
    """The rate with ten active versions on one topic, against one."""
    one, ten = bench.lanes("one"), bench.lanes("ten", VERSIONS)
    found = bench.rounds("versions", [bench.entry(one), bench.entry(ten)])
    bench.find(
        Finding(
            "versions",
            f"rate with {VERSIONS} active versions on one topic, against 1",
            ratios(found, "ten", "one", _rate),
            must=0.80,
            hope=0.90,
        )
    )


def shadow(bench: Bench) -> None:
    """The rate with a version in the shadow, against without: with a backlog the shadow is left out."""
    found = bench.rounds("shadow", [bench.entry(bench.lanes("alone")), bench.entry(bench.lanes("shadowed", shadows=1))])
    what = "rate of a backlog with a version in the shadow, against without"
    bench.find(Finding("shadow", what, ratios(found, "shadowed", "alone", _rate)))


def sets(bench: Bench) -> None:
    """Lanes of two partitions against lanes of one: their rate, and what they cost at 3,000 events a second."""
    seconds = SECONDS_QUICK if bench.options.quick else SECONDS
    sizes = {"pairs": 2, "single": 1}
    backlog = [bench.lanes(name, lane_partitions=size) for name, size in sizes.items()]
    drained = bench.rounds("sets", [bench.entry(each) for each in backlog])
    bench.find(
        Finding(
            "sets", "rate of lanes of two partitions, against lanes of one", ratios(drained, "pairs", "single", _rate)
        )
    )
    light = [bench.lanes(name, endpoint=pacing.ENDPOINT, lane_partitions=size) for name, size in sizes.items()]
    found = pacing.interleaved(bench, "sets, 3,000/s", light, STEADY_RATE, seconds)
    for quantile, what in (("own_cores", "router CPU"), ("p50", "p50"), ("p99", "p99")):
        title = f"{what} of lanes of two partitions at {STEADY_RATE:,.0f}/s, against lanes of one"
        bench.find(Finding(f"sets-{quantile}", title, pacing.ratios(found, "pairs", "single", quantile), "at most"))


def latency(bench: Bench) -> None:
    """Latency at half load against the echo, and at 3,000 events a second against the bare loop."""
    seconds = SECONDS_QUICK if bench.options.quick else SECONDS
    lanes, echo, bare = bench.lanes("lanes", endpoint=pacing.ENDPOINT), bench.loop("echo"), bench.loop("bare")
    half = _half_load(bench)
    found = pacing.interleaved(bench, "half load", [lanes, echo], half, seconds)
    what = f"at half load ({half:,.0f}/s), against the transactional echo"
    _find_latency(bench, "half", what, found, "echo", ((2.0, 1.5), (3.0, 2.0)))
    found = pacing.interleaved(bench, "3,000/s", [lanes, bare], STEADY_RATE, seconds)
    what = f"at {STEADY_RATE:,.0f}/s, against the bare loop that commits batch after batch"
    _find_latency(bench, "steady", what, found, "bare", ((0.5, 0.3), (0.6, 0.4)))


def _half_load(bench: Bench) -> float:
    """Return half of what the lanes answer beside a sender and a reader, which need their share of the cores too."""
    if "full load" not in bench.figures:
        lanes = bench.lanes("lanes", endpoint=pacing.ENDPOINT)
        seconds = SECONDS_QUICK if bench.options.quick else SECONDS
        full = overloading.overloaded(bench, lanes, bench.peak() * OVERLOAD, seconds, 0, with_reader=True)
        bench.figures["full load"] = full.summary()
    return float(bench.figures["full load"]["goodput"]) / 2


def _find_latency(
    bench: Bench,
    name: str,
    what: str,
    found: list[pacing.Paced],
    against: str,
    bounds: tuple[tuple[float, float], tuple[float, float]],
) -> None:
    for quantile, (must, hope) in zip(("p50", "p99"), bounds, strict=True):
        ratios_found = pacing.ratios(found, "lanes", against, quantile)
        own = [getattr(each, quantile) for each in found if each.contender == "lanes"]
        note = f"{min(own):.1f} to {max(own):.1f} ms" if own else ""
        bench.find(Finding(f"{name} {quantile}", f"{quantile} {what}", ratios_found, "at most", must, hope, note=note))


def lone(bench: Bench) -> None:
    """A lone event on an idle endpoint, from request to committed result."""
    seconds = SECONDS_QUICK if bench.options.quick else SECONDS
    lanes = bench.lanes("lanes", endpoint=pacing.ENDPOINT)
    found = pacing.interleaved(bench, "lone", [lanes], LONE_RATE, seconds, spaced=True)
    bench.find(
        Finding(
            "lone",
            "p50 of a lone event on an idle endpoint, request to committed result",
            tuple(each.p50 for each in found),
            "at most",
            25.0,
            15.0,
            unit=" ms",
        )
    )


@dataclass(frozen=True)
class _Round:
    """The lanes at their peak, with more than they can answer, and at their peak again."""

    before: overloading.Overloaded
    over: overloading.Overloaded
    after: overloading.Overloaded

    @property
    def peak(self) -> float:
        return (self.before.goodput + self.after.goodput) / 2

    @property
    def tenths(self) -> list[float]:
        """What was answered in each tenth of the time, as shares of the peak."""
        return [each / self.peak for each in self.over.windows]


def overload(bench: Bench) -> None:
    """Half as much again as is answered at most, for five minutes, against that.

    At most is answered what the lanes answer beside a sender of half as much again as they
    drain alone, as for half load. It is looked up before and after each of the rounds,
    and their mean is the peak of the round: the machine drifts within minutes.
    """
    peak = bench.peak()
    seconds = OVERLOAD_SECONDS_QUICK if bench.options.quick else OVERLOAD_SECONDS
    needed = peak * OVERLOAD * seconds * DISK_BYTES
    lanes = bench.lanes("lanes", endpoint=pacing.ENDPOINT)
    rounds: list[_Round] = []

    def full(number: int) -> overloading.Overloaded:
        return overloading.overloaded(bench, lanes, peak * OVERLOAD, min(seconds, FULL_SECONDS), number)

    for number in range(min(bench.options.rounds, OVERLOAD_ROUNDS_MAX)):
        room = overloading.wait_for_room(Path(bench.environment["INTERLOCK_HOME"]), needed, ROOM_SECONDS_MAX)
        if room < needed:
            bench.notes["overload"] = (
                f"{number} rounds: another writes more than the {room / 1e9:.0f} GB that the disk has room for"
            )
            break
        before = full(number)
        over = overloading.overloaded(bench, lanes, before.goodput * OVERLOAD, seconds, number)
        rounds.append(each := _Round(before, over, full(number)))
        bench.say(
            f"overload {number}: {over.offered:,.0f}/s offered for {seconds:.0f} s, {over.goodput:,.0f}/s answered, "
            f"{before.goodput:,.0f}/s at peak before and {each.after.goodput:,.0f}/s after, "
            f"{min(each.tenths):.2f} to {max(each.tenths):.2f} of that in tenths of the time; "
            f"{over.answered:,} of {over.sent:,}; backlog {over.backlog:,} drained at {over.after:,.0f}/s"
        )
    if not rounds:
        bench.missing.append("overload")
        return
    bench.figures["overload"] = {
        "rounds": [{name: part.summary() for name, part in vars(each).items()} for each in rounds],
        "seconds": seconds,
    }
    what = f"overload at 150 % for {seconds:.0f} s: "
    goodput = tuple(each.over.goodput / each.peak for each in rounds)
    note = f"the slowest tenth of a round {min(min(each.tenths) for each in rounds):.2f}"
    bench.find(Finding("goodput", what + "goodput, of peak", goodput, must=0.95, hope=0.99, note=note))
    memory = tuple(each.over.memory_peak / each.before.memory_peak for each in rounds)
    note = f"at most {max(each.over.memory_peak for each in rounds):.0f} MiB"
    bench.find(Finding("memory", what + "router's memory, of that at peak", memory, "at most", 1.3, note=note))


def handover(bench: Bench) -> None:
    """Partitions of a router that is killed, or ends as planned, at half load."""
    router, half = bench.lanes("router", endpoint=pacing.ENDPOINT, processes=1), _half_load(bench)
    found: list[handing_over.Struck] = []
    for number in range(HANDOVERS_QUICK if bench.options.quick else HANDOVERS):
        for kind in (signal.SIGKILL, signal.SIGTERM):
            try:
                found.append(handing_over.strike(bench, router, half, kind, number))
            except Failed as failure:
                bench.failed("handover")(kind.name, number, failure)
                continue
            bench.say(f"handover {number}: {kind.name}, silent for {found[-1].silent:.2f} s")
    bench.figures["handover"] = [each.summary() for each in found]
    for kind, how, must in ((signal.SIGKILL, "killed", 12.0), (signal.SIGTERM, "planned", 3.0)):
        values = tuple(each.silent for each in found if each.signal == kind.name)
        what = f"p95 of a partition's longest silence, router {how} at half load ({half:,.0f}/s)"
        bench.find(Finding(f"handover {kind.name}", what, values, "at most", must, unit=" s", quantile=0.95))


def tracing(bench: Bench) -> None:
    """What traces at 1 % and all metrics cost a lane, by `bench_tracing`, which tells what it compares."""
    command = [sys.executable, "-m", "tests.bench.bench_tracing", "--home", bench.environment["INTERLOCK_HOME"]]
    command += ["--passes", str(TRACING_PASSES_QUICK if bench.options.quick else TRACING_PASSES)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=TRACING_SECONDS_MAX)
    found = json.loads(done.stdout.splitlines()[-1])
    bench.figures["tracing"] = found
    what = "router CPU with traces at 1 % and all metrics on, more than with both off"
    costs = tuple(found["router_percent_more_of_each_slice"])
    bench.find(Finding("tracing", what, costs, "at most", 3.0, 1.0, unit=" %"))


def rollout(bench: Bench) -> None:
    """Promotions and rollbacks on a whole stack under load."""
    times = SWITCHES_QUICK if bench.options.quick else SWITCHES
    found = switching.measure(Path(bench.environment["INTERLOCK_HOME"]), times, bench.say)
    bench.figures["rollout"] = {"promotions": found.promotions, "rollbacks": found.rollbacks}
    what = "p95 from a promotion appended to the first result by the warm version"
    bench.find(Finding("promotion", what, tuple(found.promotions), "at most", 1.5, 0.5, unit=" s", quantile=0.95))
    what = "p95 from a rollback's command to the last result by the bad version"
    bench.find(Finding("rollback", what, tuple(found.rollbacks), "at most", 1.0, 0.3, unit=" s", quantile=0.95))


def _rate(drained: Drained) -> float:
    return drained.events_per_second


def _cpu(drained: Drained) -> float:
    return drained.cpu_microseconds


SCENARIOS: dict[str, Callable[[Bench], None]] = {
    "rate": rate,
    "latency": latency,
    "lone": lone,
    "tracing": tracing,
    "handover": handover,
    "overload": overload,
    "peers": peers,
    "versions": versions,
    "shadow": shadow,
    "sets": sets,
    "rollout": rollout,
}
"""All of them, in the order in which they run: the replicas of ten versions stay, and would disturb the others."""
