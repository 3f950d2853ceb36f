"""`interlock top`: rate, lag, latency, each version's share, drift and the audit log, live."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

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
    from interlock.client.watch import look

    async def watch() -> None:
        async with connect() as il:
            seen = await look(il, endpoint)
            if not seen["endpoints"] and not as_json:
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
                    _show(seen, live, as_json=as_json)
                    if once:
                        return
                    await asyncio.sleep(REFRESH_SECONDS)
                    seen = await look(il, endpoint)
            finally:
                if live:
                    live.stop()

    screen.finish(watch)


def _show(seen: Mapping[str, Any], live: Live | None, *, as_json: bool) -> None:
    if as_json:
        for each in seen["endpoints"]:
            screen.print_json_line({**each, "audit": seen["audit"]})
    elif live:
        live.update(page(seen), refresh=True)
    else:
        screen.console().print(page(seen))


def page(seen: Mapping[str, Any]) -> Group:
    """Return one look: a table of the endpoints, and a line about the audit log."""
    return Group(table(seen["endpoints"]), Text(""), Text.from_markup(audit_line(seen["audit"])))


def table(figures: Sequence[Mapping[str, Any]]) -> Table:
    """Return the figures as a table, one endpoint a row."""
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("ENDPOINT", "EVENTS/S", "LAG", "P50 ms", "P99 ms", "VERSIONS", "DEAD LETTERS/S", "DRIFT"):
        shown.add_column(name, justify="left" if name in ("ENDPOINT", "VERSIONS", "DRIFT") else "right")
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
            drift_words(each.get("drift") or {}),
        )
    return shown


def drift_words(drift: Mapping[str, Any]) -> str:
    """Return what is to be said of an endpoint's drift, in colour; the words themselves say it too."""
    if "away" in drift:
        return "[yellow]monitor away[/yellow]"
    if drift.get("state") == "drift":
        return f"[red]v{drift['version']}: {screen.paint(', '.join(drift['features']) or 'drift')}[/red]"
    return {
        "clear": "[green]none[/green]",
        "too_few_rows": "[dim]too few rows[/dim]",
        "no_reference": "[dim]no reference[/dim]",
    }.get(str(drift.get("state")), "[dim]no window yet[/dim]")


def audit_line(head: Mapping[str, Any]) -> str:
    """Return the audit log's head in one line."""
    if "away" in head:
        return f"[yellow]audit log: away ({screen.paint(head['away'])})[/yellow]"
    text = f"audit log: {head['size']:,} entries, root {screen.short(head.get('root'))}"
    witnessed = head.get("witnessed_size")
    text += f", witnessed up to {witnessed:,}" if witnessed is not None else ", not witnessed yet"
    detail = head.get("detail")
    return f"[red]{text}: {screen.paint(detail)}[/red]" if detail else text
