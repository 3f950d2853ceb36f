"""`python -m tests.bench`: everything that Interlock promises about speed, measured in one run, in one report.

The report is `report.json` and `report.md` with pictures, in the folder of `--out`. Without `--home` the bench starts
a stack of its own (Kafka and Ray); with it, it uses the running stack of that folder.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from interlock import embedded
from interlock.embedded.home import Home
from tests.bench import report, work
from tests.bench.bench import Bench, Options
from tests.bench.scenarios import SCENARIOS
from tests.integration.router.rig import schema_registry

ROUNDS = 5
ROUNDS_QUICK = 2
REQUESTS = 400_000
REQUESTS_QUICK = 100_000


def main() -> int:
    """Measure what is asked for and write the report; 1 where something that must be is not."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="the folder of the report")
    parser.add_argument("--only", action="append", choices=sorted(SCENARIOS), help="only this; may be given again")
    parser.add_argument("--rounds", type=int, default=None)
    parser.add_argument("--requests", type=int, default=None, help="how many are preloaded")
    parser.add_argument("--quick", action="store_true", help="few rounds, few requests: a look, not a measurement")
    parser.add_argument("--home", type=Path, default=None, help="the folder of a running stack")
    given = parser.parse_args()
    options = Options(
        out=given.out.absolute(),
        rounds=given.rounds or (ROUNDS_QUICK if given.quick else ROUNDS),
        requests=given.requests or (REQUESTS_QUICK if given.quick else REQUESTS),
        quick=given.quick,
    )
    options.out.mkdir(parents=True, exist_ok=True)
    work.model()
    with stack(given.home) as environment, schema_registry({work.SCHEMA_ID: work.SCHEMA}) as url:
        bench = Bench(options, environment, url)
        for name in given.only or SCENARIOS:
            bench.say(f"--- {name}: {SCENARIOS[name].__doc__}")
            SCENARIOS[name](bench)
            report.write(bench)  # after each, so that what was measured is kept when a later one fails
    sys.stdout.write((options.out / report.MARKDOWN).read_text())
    return 1 if bench.missing or any(finding.verdict == "missed" for finding in bench.findings) else 0


@contextmanager
def stack(home: Path | None) -> Iterator[dict[str, str]]:
    """Lend the client environment of a running stack, or of one that is started for the length of the body."""
    record = Home(home).record() if home is not None else None
    if record is not None:
        yield record["env"]
        return
    with tempfile.TemporaryDirectory(prefix="il-") as folder, embedded.running(folder, ("kafka", "ray")) as environment:
        yield environment


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
