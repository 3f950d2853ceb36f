"""`interlock approve | promote | rollback`: the way to live traffic, and back."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interlock.cli import screen
from interlock.cli.completion import endpoint_names, endpoint_versions, model_names, version_numbers
from interlock.cli.screen import AsJson

if TYPE_CHECKING:
    from interlock.client.session import Interlock

POLL_SECONDS = 0.2
UNWITNESSED_POLL_SECONDS = 1.0

Model = Annotated[str, typer.Argument(help="The model's name.", autocompletion=model_names)]
Endpoint = Annotated[str, typer.Argument(help="The endpoint's name.", autocompletion=endpoint_names)]
Wait = Annotated[bool, typer.Option("--wait", help="Return only when the new route is set and answering.")]
WaitSeconds = Annotated[float, typer.Option(help="How long to wait at most.", min=1)]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("approve")(approve)
    app.command("promote")(promote)
    app.command("rollback")(rollback)


def approve(
    model: Model,
    version: Annotated[int, typer.Argument(help="The version's number.", min=1, autocompletion=version_numbers)],
    endpoint: Annotated[str, typer.Option(help="The endpoint you consent for.", autocompletion=endpoint_names)],
    note: Annotated[str, typer.Option(help="Why, for those who read it later.")] = "",
    as_json: AsJson = False,
) -> None:
    """Consent to a version for an endpoint; never to your own (role approver)."""
    from interlock.client.session import connect

    async def ask() -> dict[str, Any]:
        async with connect() as il:
            return await il.approve(model, version, endpoint, note)

    answer = screen.finish(ask)
    if as_json:
        screen.print_json(answer)
    else:
        screen.console().print(
            f"Approved: {model} version {version} for {endpoint}. Next: `interlock promote {endpoint} {version}`."
        )


def promote(
    endpoint: Endpoint,
    version: Annotated[
        int, typer.Argument(help="The version that shall answer.", min=1, autocompletion=endpoint_versions)
    ],
    wait: Wait = False,
    wait_seconds: WaitSeconds = 120,
    as_json: AsJson = False,
) -> None:
    """Let a proven and approved version answer an endpoint (role operator)."""
    from interlock.client.session import connect

    async def ask() -> dict[str, Any]:
        async with connect() as il:
            answer = await _promoted(il, endpoint, version, wait_seconds if wait else 0)
            return answer | (await serving(il, endpoint, version, wait_seconds) if wait else {})

    answer = screen.finish(ask)
    if as_json:
        screen.print_json(answer)
    elif wait:
        screen.console().print(f"{endpoint} is answered by version {version}, epoch {answer['route_epoch']}.")
    else:
        screen.console().print(
            f"Promotion {answer.get('promotion')} of version {version} is ordered; `interlock follow` shows it happen."
        )


async def _promoted(il: Interlock, endpoint: str, version: int, wait_seconds: float) -> dict[str, Any]:
    """Order a promotion; while the audit log has no witness, order it again until the time is over."""
    from interlock.client.errors import Refused

    deadline = asyncio.get_running_loop().time() + wait_seconds
    while True:
        try:
            return await il.promote(endpoint, version)
        except Refused as refused:
            if refused.code != "AUDIT_UNWITNESSED" or asyncio.get_running_loop().time() >= deadline:
                raise
        await asyncio.sleep(UNWITNESSED_POLL_SECONDS)


def rollback(
    endpoint: Endpoint,
    reason: Annotated[str, typer.Option(help="Why, for those who read it later.")],
    to_version: Annotated[
        int | None,
        typer.Option(help="The version to go back to; the one before by default.", autocompletion=endpoint_versions),
    ] = None,
    wait: Wait = False,
    wait_seconds: WaitSeconds = 60,
    as_json: AsJson = False,
) -> None:
    """Go back to the version that answered before (role operator)."""
    from interlock.client.session import connect

    async def ask() -> dict[str, Any]:
        async with connect() as il:
            answer = await il.rollback(endpoint, reason, to_version)
            return answer | (await serving(il, endpoint, int(answer["version"]), wait_seconds) if wait else {})

    answer = screen.finish(ask)
    if as_json:
        screen.print_json(answer)
    elif wait:
        screen.console().print(
            f"{endpoint} is answered by version {answer['version']} again, epoch {answer['route_epoch']}."
        )
    else:
        screen.console().print(f"The way back is ordered: {endpoint} goes to version {answer.get('version')}.")


async def serving(il: Interlock, endpoint: str, version: int, wait_seconds: float) -> dict[str, Any]:
    """Wait until a version is the endpoint's champion and return its epoch; raises TimedOut if it does not come."""
    from interlock.client.errors import TimedOut

    deadline = asyncio.get_running_loop().time() + wait_seconds
    found: dict[str, Any] = {}
    status = (
        screen.notes().status(f"waiting for version {version} to answer {endpoint} …") if sys.stderr.isatty() else None
    )
    if status:
        status.start()
    try:
        while asyncio.get_running_loop().time() < deadline:
            champion = (found := await il.endpoint_details(endpoint)).get("champion") or {}
            if found.get("failure"):
                break
            if champion.get("version") == version:
                return {"route_epoch": champion.get("epoch", found.get("route_epoch"))}
            await asyncio.sleep(POLL_SECONDS)
    finally:
        if status:
            status.stop()
    if found.get("failure"):
        raise TimedOut(f"Version {version} cannot answer {endpoint}: {found['failure']}")
    raise TimedOut(f"Version {version} does not answer {endpoint} after {wait_seconds:g} s; see `interlock follow`.")
