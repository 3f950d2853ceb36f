"""`interlock top`: rate, lag, latency and each version's share, live."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.table import Table

from interlock.cli import screen
from interlock.cli.completion import endpoint_names

REFRESH_SECONDS = 1.0


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("top")(top)


def top(
    endpoint: Annotated[str | None, typer.Argument(help="Only this endpoint.", autocompletion=endpoint_names)] = None,
    once: Annotated[bool, typer.Option("--once", help="Show the figures once, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line.")] = False,
) -> None:
    """Show each endpoint's rate, lag, latency and the share of each version; Ctrl-C stops."""
    from interlock.client.session import connect

    async def watch() -> None:
        async with connect() as il:
            names = [endpoint] if endpoint else [each["name"] for each in await il.endpoints()]
            if not names and not as_json:
                screen.console().print("No endpoint yet. Create one: `interlock endpoint create NAME --model MODEL`.")
                return
            live = (
                None
                if once or as_json or not sys.stdout.isatty()
                else Live(console=screen.console(), auto_refresh=False)
            )
            if live:
                live.start()
            try:
                while True:
                    figures = [summary(name, await il.live(name)) for name in names]
                    _show(figures, live, as_json=as_json)
                    if once:
                        return
                    await asyncio.sleep(REFRESH_SECONDS)
            finally:
                if live:
                    live.stop()

    screen.finish(watch)


def _show(figures: Sequence[Mapping[str, Any]], live: Live | None, *, as_json: bool) -> None:
    if as_json:
        for each in figures:
            screen.print_json_line(each)
    elif live:
        live.update(table(figures), refresh=True)
    else:
        screen.console().print(table(figures))


def summary(endpoint: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return one endpoint's figures over all router instances: rates and lags add up, the worst latency counts."""
    instances = answer.get("instances", answer.get("live", []))
    instances = instances if isinstance(instances, list) else list(instances.values())
    rate = sum(each.get("events_per_second", 0.0) for each in instances)
    shares: dict[str, float] = {}
    for each in instances:
        weight = each.get("events_per_second", 0.0) / rate if rate else 1 / len(instances)
        for version, share in (each.get("versions") or {}).items():
            shares[version] = shares.get(version, 0.0) + share * weight
    latencies = [each.get("latency_ms") or {} for each in instances]
    return {
        "endpoint": endpoint,
        "instances": len(instances),
        "events_per_second": rate,
        "lag": sum(each.get("lag", 0) for each in instances),
        "latency_ms": {
            name: max((each.get(name) or 0.0 for each in latencies), default=0.0) for name in ("p50", "p99")
        },
        "versions": shares,
        "dead_letters_per_second": sum(each.get("dead_letters_per_second", 0.0) for each in instances),
    }


def table(figures: Sequence[Mapping[str, Any]]) -> Table:
    """Return the figures as a table, one endpoint a row."""
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("ENDPOINT", "EVENTS/S", "LAG", "P50 ms", "P99 ms", "VERSIONS", "DEAD LETTERS/S"):
        shown.add_column(name, justify="left" if name in ("ENDPOINT", "VERSIONS") else "right")
    for each in figures:
        versions = ", ".join(f"v{version} {share:.0%}" for version, share in sorted(each["versions"].items()))
        shown.add_row(
            str(each["endpoint"]),
            f"{each['events_per_second']:,.0f}",
            f"{each['lag']:,}",
            f"{each['latency_ms']['p50']:.0f}",
            f"{each['latency_ms']['p99']:.0f}",
            versions or "-",
            f"{each['dead_letters_per_second']:,.1f}",
        )
    return shown
