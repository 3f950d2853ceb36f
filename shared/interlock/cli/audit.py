"""`interlock audit`: the record of all that happened, its head, its entries, and whether any of it was changed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer

from interlock.cli import screen
from interlock.cli.screen import AsJson
from interlock.errors import Code, Refusal

VERIFIERS = "interlock.verifiers"
NAMED_MAX = 50
"""How many findings are printed; `--json` gives all."""

AUDIT_UNKNOWN = Code(
    "AUDIT_UNKNOWN",
    400,
    "It is not known where the log, its witness or their keys are",
    "Give --dsn, --witness, --log-key and --witness-key, or start the stack: `interlock up`.",
)


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = typer.Typer(no_args_is_help=True, help="Show and verify the record of all that happened.")
    group.command("head")(head)
    group.command("entries")(entries)
    group.command("verify")(verify)
    app.add_typer(group, name="audit")


def head(as_json: AsJson = False) -> None:
    """Show the log's size and root, what its witness has signed, and what is wrong if anything is."""
    from interlock.client.session import connect

    async def ask() -> dict[str, Any]:
        async with connect() as il:
            return await il.audit_head()

    found = screen.finish(ask)
    if as_json:
        screen.print_json(found)
        return
    shown = ("log", "state", "size", "root", "witnessed_size", "witness_lost", "trouble", "lag", "key", "witness_key")
    screen.print_facts({name.replace("_", " "): found.get(name) for name in shown})
    for gap in found.get("gaps") or []:
        screen.console().print(f"gap: {screen.paint(gap['detail'])}")


def entries(
    first: Annotated[int, typer.Option(help="The number of the first entry.", min=0)] = 0,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=1000)] = 100,
    action: Annotated[str | None, typer.Option(help="Only this kind of event, such as VersionPromoted.")] = None,
    model: Annotated[str | None, typer.Option(help="Only about this model.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Only about this endpoint.")] = None,
    as_json: AsJson = False,
) -> None:
    """List entries of the log."""
    from interlock.client.session import connect

    async def ask() -> list[dict[str, Any]]:
        async with connect() as il:
            asked: dict[str, Any] = {
                "first": first,
                "limit": limit,
                "action": action,
                "model": model,
                "endpoint": endpoint,
            }
            found: list[dict[str, Any]] = await il.auditor.get("/v1/entries", **asked)
            return found

    found = screen.finish(ask)
    if as_json:
        screen.print_json(found)
        return
    rows = [
        (
            each["seq"],
            screen.moment(each["time"]),
            each["action"],
            each["subject"].strip("/"),
            each["actor"],
            f"{each['topic']}/{each['partition']}/{each['offset']}",
        )
        for each in found
    ]
    screen.print_table(("entry", "at", "event", "about", "by", "record"), rows, "The log has no such entries.")


def verify(
    dsn: Annotated[str | None, typer.Option(help="The database; any role that may read the log.")] = None,
    witness: Annotated[str | None, typer.Option(help="The witness: its address, or its folder.")] = None,
    log_key: Annotated[Path | None, typer.Option(help="PEM file with the log's public key.")] = None,
    witness_key: Annotated[Path | None, typer.Option(help="PEM file with the witness's public key.")] = None,
    replay: Annotated[bool, typer.Option("--replay", help="Read every topic again and make every entry anew.")] = False,
    as_json: AsJson = False,
) -> None:
    """Recompute the log from its rows, hold it against the witness, and name every row that is not what it was.

    Exit status 0 where all holds, 1 where anything does not.
    """
    asked = _asked(dsn, witness, log_key, witness_key, replay=replay)

    async def work() -> dict[str, Any]:
        found: dict[str, Any] = await _verifier()(**asked)
        return found

    report = screen.finish(work)
    if as_json:
        screen.print_json(report)
    else:
        _show(report)
    if report["findings"]:
        raise typer.Exit(1)


def _asked(
    dsn: str | None, witness: str | None, log_key: Path | None, witness_key: Path | None, *, replay: bool
) -> dict[str, Any]:
    """Return what is to be verified: as given, else from the environment, else from the stack on this machine."""
    from interlock.client.addresses import home_folder, running_stack

    known: Mapping[str, str] = running_stack(home_folder(os.environ)) | dict(os.environ)
    found = {
        "dsn": dsn or known.get("INTERLOCK_POSTGRES_DSN"),
        "witness": witness or known.get("INTERLOCK_WITNESS_URL"),
        "log_key": str(log_key or known.get("INTERLOCK_AUDIT_PUBLIC_KEY_FILE") or ""),
        "witness_key": str(witness_key or known.get("INTERLOCK_WITNESS_PUBLIC_KEY_FILE") or ""),
    }
    if missing := [name.replace("_", "-") for name, value in found.items() if not value]:
        raise Refusal(AUDIT_UNKNOWN, f"--{' and --'.join(missing)}: neither given nor known.")
    kafka = known.get("INTERLOCK_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092") if replay else None
    return found | {"token": known.get("INTERLOCK_TOKEN", ""), "kafka": kafka}


def _verifier() -> Any:
    """Return the auditor's verification, which is found by its entry point as a service is."""
    for point in entry_points(group=VERIFIERS, name="audit"):
        return point.load()
    raise Refusal(AUDIT_UNKNOWN, "The auditor is not installed here.")


def _show(report: Mapping[str, Any]) -> None:
    """Print a report as a person reads it."""
    console = screen.console()
    newer = report["rows"] - report["witnessed"]
    console.print(
        f"{report['rows']:,} rows, {report['witnessed']:,} entries witnessed"
        f"{f', {newer} newer' if newer > 0 else ''}; {report['seconds']:.2f} s"
    )
    console.print(f"root {report['root']}")
    if report["replayed"] is not None:
        same = "the same root" if report["replayed_root"] == report["root"] else f"root {report['replayed_root']}"
        gone = f", {report['gone']:,} no longer in Kafka" if report["gone"] else ""
        console.print(f"replayed {report['replayed']:,} records{gone}: {same}")
    for each in report["findings"][:NAMED_MAX]:
        console.print(f"[red]{screen.paint(_sentence(each))}[/red]")
    if len(report["findings"]) > NAMED_MAX:
        console.print(f"and {len(report['findings']) - NAMED_MAX} more")
    if not report["findings"]:
        console.print("[green]Every entry is what it was.[/green]")


def _sentence(found: Mapping[str, Any]) -> str:
    """Return one finding in words."""
    first, last = found["first"], found["last"]
    which = f"entry {first}" if first == last else f"entries {first} to {last}"
    place = f", record {found['place']}" if found["place"] else ""
    detail = f" ({found['detail']})" if found["detail"] else ""
    return f"{which}: {found['what']}{place}{detail}"
