"""Drift on 10,000 x 30 rows, side by side with Evidently and NannyML: the same statistic, the same verdict, how fast.

`python -m tests.bench.bench_drift` sets up a virtual environment for each of them under ~/.cache/interlock/peers; they
are never among our own dependencies. Everybody has the reference prepared as far as it allows and gets the same two
matrices; the clock runs from the window's matrix to the verdict. Rounds are interleaved; CPU time decides, for it does
not depend on who else uses the machine. Ours computes all its statistics each time, theirs the one that is asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

PEERS: Final = {
    "evidently": ("evidently==0.7.23", "pandas<3"),
    "nannyml": ("nannyml==0.13.1", "pandas<3", "statsmodels"),
}
RATIO_MIN: Final = {"evidently": 100.0, "nannyml": 3.0}
ROWS, COLUMNS, ROUNDS = 10_000, 30, 5
SHIFTED: Final = ["f13", "f22", "f4"]
RATE: Final = 1e-4 / (2 * COLUMNS)
THRESHOLDS: Final = {
    ("evidently", "ks"): RATE,
    ("evidently", "jensen_shannon"): 0.1,
    ("evidently", "psi"): 0.1,
    ("nannyml", "ks"): 0.1,
    ("nannyml", "jensen_shannon"): 0.1,
}
HOME: Final = Path.home() / ".cache" / "interlock" / "peers"
QUIET: Final = {**os.environ, "DO_NOT_TRACK": "1", "NML_DISABLE_USAGE_LOGGING": "1"}
"""They would send what they were used for over the network, which is neither wanted nor to be measured."""
FOLDER: Final = Path(__file__).parent / "drift_peers"


class Side:
    """A process that holds the two matrices and judges when asked."""

    def __init__(self, name: str, python: Path, matrices: Path) -> None:
        self.name = name
        command = [str(python), "-W", "ignore", str(FOLDER / f"bench_{name}.py"), str(matrices)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=QUIET)

    def judge(self, statistic: str, threshold: float) -> dict[str, Any]:
        """Return seconds (cpu, wall), what drifted, and every column's value."""
        into, out = self._process.stdin, self._process.stdout
        assert into is not None and out is not None
        into.write(json.dumps({"statistic": statistic, "threshold": threshold}) + "\n")
        into.flush()
        return self._answer(out)

    def _answer(self, out: IO[str]) -> dict[str, Any]:
        for line in out:
            if line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                return found
        raise RuntimeError(f"{self.name} ended without an answer")

    def end(self) -> None:
        """Let the process end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


def main() -> int:
    """Run all rounds, print medians and ratios; return 1 if a verdict differs or a ratio is below its bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", choices=tuple(PEERS), action="append", help="only this one; may be given again")
    chosen = parser.parse_args().peer or list(PEERS)
    console = Console()
    good = True
    with tempfile.TemporaryDirectory() as folder:
        matrices = Path(folder)
        random = np.random.default_rng(2026)
        after = random.normal(size=(ROWS, COLUMNS))
        for name in SHIFTED:
            after[:, int(name[1:])] += 0.5
        np.save(matrices / "reference.npy", random.normal(size=(ROWS, COLUMNS)))
        np.save(matrices / "window.npy", after)
        table = Table(
            "peer", "statistic", "theirs, CPU ms", "ours, CPU ms", "ratio", "by wall", "at least", "same verdict"
        )
        ours = Side("interlock", Path(sys.executable), matrices)
        for name in chosen:
            theirs = Side(name, _python(name, PEERS[name], console), matrices)
            for statistic in [statistic for peer, statistic in THRESHOLDS if peer == name]:
                row, fine = _compare(ours, theirs, statistic)
                table.add_row(*row)
                good &= fine
            theirs.end()
        ours.end()
    console.print(table)
    return 0 if good else 1


def _compare(ours: Side, theirs: Side, statistic: str) -> tuple[list[str], bool]:
    """Return a row of the table, and whether it is as promised; the first round only warms up."""
    threshold = THRESHOLDS[theirs.name, statistic]
    rounds = [(theirs.judge(statistic, threshold), ours.judge(statistic, 0.1)) for _ in range(ROUNDS + 1)]
    counted = rounds[1:]
    ratio, wall = (statistics.median(his[kind] / mine[kind] for his, mine in counted) for kind in ("cpu", "wall"))
    same = all(his["drifted"] == mine["drifted"] == SHIFTED for his, mine in rounds)
    if (theirs.name, statistic) == ("nannyml", "ks"):  # both give the statistic itself: ours on the grid of percentiles
        his, mine = rounds[-1]
        same &= all(abs(his["values"][name] - value) <= 0.01 for name, value in mine["values"].items())
    took = [statistics.median(side["cpu"] for side in sides) * 1000 for sides in zip(*counted, strict=True)]
    bound = RATIO_MIN[theirs.name]
    row = [theirs.name, statistic, f"{took[0]:,.1f}", f"{took[1]:.2f}", f"{ratio:,.1f}", f"{wall:,.1f}", f"{bound:g}"]
    return [*row, "yes" if same else "NO"], same and ratio >= bound


def _python(name: str, packages: tuple[str, ...], console: Console) -> Path:
    """Return the interpreter of a peer's environment, made on the first run and whenever its packages change."""
    home = HOME / name
    python, mark = home / "bin" / "python", home / "packages.txt"
    wanted = "\n".join(packages)
    if not mark.is_file() or mark.read_text() != wanted:
        console.print(f"setting up {home} with {', '.join(packages)} ...")
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
        mark.write_text(wanted)
    return python


if __name__ == "__main__":
    sys.exit(main())
