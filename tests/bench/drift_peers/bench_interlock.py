"""Our side of `bench_drift`: a round for each line it is given, always with every statistic."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from interlock.signature import Input, Signature
from interlock_builder.profile import profile
from interlock_monitor.drift import DriftRules, Reference, compare
from interlock_monitor.windows import WindowState


def main() -> None:
    """Take the profile beforehand; per round fold the window's matrix and compare it."""
    folder = Path(sys.argv[1])
    before, after = np.load(folder / "reference.npy"), np.load(folder / "window.npy")
    names = tuple(f"f{place}" for place in range(before.shape[1]))
    signature = Signature(tuple(Input(name, "double") for name in names), ())
    reference = Reference.from_profile(profile(signature, before, np.empty((len(before), 0)), "reference.npy"))
    for line in sys.stdin:
        asked = json.loads(line)
        wall, cpu = time.perf_counter(), time.process_time()
        state = WindowState(rows=len(after))
        state.features.adopt(names, reference.feature_grid)
        state.features.add(after.T)
        verdict = compare(reference, state, DriftRules())
        took = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
        field = "value" if asked["statistic"] == "ks" else asked["statistic"]
        values = {each.drift.feature: getattr(each.drift, field) for each in verdict.measured}
        drifted = list(verdict.drifted)
        if asked["statistic"] != "ks":
            drifted = [name for name, value in values.items() if value >= asked["threshold"]]
        sys.stdout.write(json.dumps({**took, "drifted": sorted(drifted), "values": values}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
