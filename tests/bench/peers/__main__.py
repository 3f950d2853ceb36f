"""`python -m tests.bench.peers --smoke`: set each peer up, let it answer some thousand requests, check every score."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from interlock import embedded
from interlock.embedded.home import Home
from tests.bench.peers import environments, smoke
from tests.bench.peers.contenders import CONTENDERS


def main() -> int:
    """Return 0 where each peer that could be set up answered each request once and rightly."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.peers", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="run each on a real Kafka; without it only set up")
    parser.add_argument("--only", nargs="*", default=[each.name for each in CONTENDERS])
    parser.add_argument("--requests", type=int, default=2_000)
    parser.add_argument("--home", type=Path, default=None, help="the home of a running stack, to use its Kafka")
    parser.add_argument("--verbose", action="store_true", help="show what each peer wrote")
    options, more = parser.parse_known_args()
    names = [each for each in CONTENDERS if each.name in options.only]
    faults = 0
    with _kafka(options.home) if options.smoke else _nothing() as bootstrap:
        for contender in names:
            try:
                environments.prepare(contender.name, _say)
            except environments.CannotInstall as error:
                _say(f"{contender.name}: cannot be set up here: {error}")
                continue
            _say(f"{contender.name}: {contender.package} {contender.version} in {environments.folder(contender.name)}")
            if bootstrap is None:
                continue
            try:
                seen = smoke.run(contender, bootstrap, options.requests, tuple(more))
            except smoke.NotReady as error:
                _say(f"{contender.name}: {error}")
                faults += 1
                continue
            _say(f"{contender.name}: {seen.verdict()}")
            faults += seen.lost + seen.repeated.total() + seen.wrong + (seen.exit_code != 0)
            if seen.log.strip() and (options.verbose or seen.lost or seen.wrong or seen.exit_code != 0):
                _say(seen.log)
    return int(bool(faults))


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextmanager
def _kafka(home: Path | None) -> Iterator[str | None]:
    record = Home(home).record() if home is not None else None
    if record is not None:
        yield record["env"]["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"]
        return
    with tempfile.TemporaryDirectory() as folder, embedded.running(folder, ("kafka",)) as environment:
        yield environment["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"]


@contextmanager
def _nothing() -> Iterator[None]:
    yield None


if __name__ == "__main__":
    sys.exit(main())
