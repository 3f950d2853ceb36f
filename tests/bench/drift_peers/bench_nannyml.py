"""NannyML's side of `bench_drift`: runs in a virtual environment of its own, a round for each line it is given."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import nannyml  # type: ignore[import-not-found]  # not in our environment
import numpy as np
import pandas as pd
from nannyml.thresholds import ConstantThreshold  # type: ignore[import-not-found]  # not in our environment

METHODS = {"ks": "kolmogorov_smirnov", "jensen_shannon": "jensen_shannon"}


def main() -> None:
    """Fit the reference beforehand; per round judge the window, from its matrix to what drifted."""
    folder = Path(sys.argv[1])
    before, after = np.load(folder / "reference.npy"), np.load(folder / "window.npy")
    names = [f"f{place}" for place in range(before.shape[1])]
    fitted = {}
    for line in sys.stdin:
        asked = json.loads(line)
        method = METHODS[asked["statistic"]]
        if method not in fitted:
            calculator = nannyml.UnivariateDriftCalculator(
                column_names=names,
                continuous_methods=[method],
                chunk_size=len(after),
                thresholds={method: ConstantThreshold(lower=None, upper=asked["threshold"])},
            )
            fitted[method] = calculator.fit(pd.DataFrame(before, columns=names))
        wall, cpu = time.perf_counter(), time.process_time()
        found = fitted[method].calculate(pd.DataFrame(after, columns=names)).filter(period="analysis").to_df().iloc[0]
        values = {name: float(found[name, method, "value"]) for name in names}
        drifted = [name for name in names if bool(found[name, method, "alert"])]
        took = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
        sys.stdout.write(json.dumps({**took, "drifted": sorted(drifted), "values": values}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
