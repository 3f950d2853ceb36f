"""Windows as a Parquet file, a row each; pyarrow is imported with the first one asked for."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

MEDIA_TYPE: Final = "application/vnd.apache.parquet"
STAGES: Final = ("queue", "score", "total")
FIGURES: Final = ("p50", "p90", "p99", "maximum")
_TIMES: Final = ("window_start", "window_end", "at")


def parquet(windows: list[dict[str, Any]]) -> bytes:
    """Return the windows (as `http_views.window` gives them) as Parquet; latencies are columns like `total_p99`."""
    import pyarrow as pa
    from pyarrow import parquet as files

    instant = pa.timestamp("ms", tz="UTC")
    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("endpoint", "model")),
            ("version", pa.int32()),
            *((name, pa.string()) for name in ("digest", "arm")),
            *((name, instant) for name in ("window_start", "window_end")),
            ("open", pa.bool_()),
            ("revision", pa.int32()),
            *((name, pa.int64()) for name in ("rows", "rejected", "late_rows")),
            ("events_per_second", pa.float64()),
            *((f"{stage}_{figure}", pa.float64()) for stage in STAGES for figure in FIGURES),
            ("score_mean", pa.float64()),
            ("evidence", pa.string()),
            ("drifted", pa.list_(pa.string())),
            ("at", instant),
        ]
    )
    table = pa.Table.from_pylist([_flat(each) for each in windows], schema=schema)
    sink = pa.BufferOutputStream()
    files.write_table(table, sink)
    return bytes(sink.getvalue())


def _flat(window: dict[str, Any]) -> dict[str, Any]:
    stages = window["latency_milliseconds"]
    latencies = {f"{stage}_{figure}": stages.get(stage, {}).get(figure) for stage in STAGES for figure in FIGURES}
    times = {name: datetime.fromisoformat(window[name]) if window[name] else None for name in _TIMES}
    return {**window, **latencies, **times}
