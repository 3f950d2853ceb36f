"""`interlock case`: how one result came about, and one file that proves it to a stranger."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from interlock.cli import screen
from interlock.cli.screen import AsJson
from interlock.errors import Code, Refusal

CASE_UNNAMED = Code(
    "CASE_UNNAMED",
    422,
    "It is not clear which result is meant",
    "Give topic/partition/offset, or the endpoint with both --request-id and --requested-at.",
)
PROOFS = {"log": "entry {entry}", "batch": "entry {entry}, batch", "reread": "topic, read again"}


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("case")(show)


def show(
    result: Annotated[str, typer.Argument(help="The request's topic/partition/offset, or the endpoint's name.")],
    request_id: Annotated[
        str | None, typer.Option(help="The request's own id, where its coordinates are lost.")
    ] = None,
    requested_at: Annotated[str | None, typer.Option(help="When it was asked, as in the request: ISO 8601.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Write one file that proves the case, offline.")] = None,
    neighbours: Annotated[
        bool, typer.Option("--neighbours", help="With parts of the requests beside it, which prove its value.")
    ] = False,
    verifier: Annotated[Path | None, typer.Option(help="Write the script that checks such a file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Explain one result: request, version, gates, approval, route, each with its entry in the audit log."""
    from interlock.client.session import connect

    at, named = _moment(requested_at), result.count("/") == 2
    if named == (request_id is not None or at is not None) or (request_id is None) != (at is None):
        raise Refusal(CASE_UNNAMED, f"Which result of {result}?")

    async def ask() -> dict[str, Any]:
        async with connect() as il:
            if request_id is not None and at is not None:
                found = await il.find_case(result, request_id, at)
            else:
                found = await il.case(result)
            if bundle is not None:
                bundle.write_bytes(await il.case_bundle(found["name"], neighbours=neighbours))
            if verifier is not None:
                verifier.write_bytes(await il.verifier())
            return found

    found = screen.finish(ask)
    if as_json:
        screen.print_json(found)
        return
    rows = [(each["fact"], each["said"], PROOFS[each["proof"]].format(**each)) for each in found["facts"]]
    screen.print_table(("", found["name"], "PROVED BY"), rows, empty="")
    head = found["checkpoint"]
    seen = head["witnessed_at"]
    at_time = f" at {screen.moment(seen * 1000)}" if seen else ""
    screen.console().print(
        f"All entries are in the log {head['log']} of {head['size']} entries, root {head['root']}, "
        f"which the witness has seen{at_time}."
    )
    if bundle is not None:
        keys = " ".join(f"--{name}-key '{key}'" for name, key in found["keys"].items())
        screen.console().print(f"The bundle is in {bundle}. Offline: python verifier.py {bundle} {keys}")


def _moment(text: str | None) -> datetime | None:
    """Read a time; raises BadParameter. Without a zone it is UTC, as in every account."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time: write 2026-03-02T09:15:30.125+00:00") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
