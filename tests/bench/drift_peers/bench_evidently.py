"""Evidently's side of `bench_drift`: runs in a virtual environment of its own, a round for each line it is given."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from evidently import DataDefinition, Dataset, Report  # type: ignore[import-not-found]  # not in our environment
from evidently.presets import DataDriftPreset  # type: ignore[import-not-found]  # not in our environment

METHODS = {"ks": "ks", "jensen_shannon": "jensenshannon", "psi": "psi"}


def main() -> None:
    """Hold the reference ready; per round judge the window, from its matrix to what drifted."""
    folder = Path(sys.argv[1])
    before, after = np.load(folder / "reference.npy"), np.load(folder / "window.npy")
    names = [f"f{place}" for place in range(before.shape[1])]
    definition = DataDefinition(numerical_columns=names)
    reference = Dataset.from_pandas(pd.DataFrame(before, columns=names), data_definition=definition)
    for line in sys.stdin:
        asked = json.loads(line)
        wall, cpu = time.perf_counter(), time.process_time()
        preset = DataDriftPreset(num_method=METHODS[asked["statistic"]], num_threshold=asked["threshold"])
        window = Dataset.from_pandas(pd.DataFrame(after, columns=names), data_definition=definition)
        found = Report([preset]).run(window, reference).dict()
        each = [metric for metric in found["metrics"] if "column" in metric["config"]]
        values = {metric["config"]["column"]: float(metric["value"]) for metric in each}
        small = asked["statistic"] == "ks"  # its value is then the p-value
        drifted = [name for name, value in values.items() if (value < asked["threshold"]) == small]
        took = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
        sys.stdout.write(json.dumps({**took, "drifted": sorted(drifted), "values": values}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
