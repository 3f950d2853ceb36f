"""`interlock version`: what became of each version of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from interlock.cli import screen
from interlock.cli.completion import model_names, version_numbers
from interlock.cli.screen import AsJson

ModelName = Annotated[str, typer.Argument(help="The model's name.", autocompletion=model_names)]
VersionNumber = Annotated[int, typer.Argument(help="The version's number.", min=1, autocompletion=version_numbers)]


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = typer.Typer(no_args_is_help=True, help="List and show the versions of a model, with their gates.")
    group.command("list")(list_versions)
    group.command("show")(show_version)
    app.add_typer(group, name="version")


def list_versions(model: ModelName, as_json: AsJson = False) -> None:
    """List a model's versions with their states."""
    from interlock.client.session import connect

    async def ask() -> list[dict[str, Any]]:
        async with connect() as il:
            return await il.versions(model)

    versions = screen.finish(ask)
    if as_json:
        screen.print_json(versions)
    else:
        version_table(versions)


def show_version(model: ModelName, version: VersionNumber, as_json: AsJson = False) -> None:
    """Show one version: where it comes from, what its gates said, who approved it."""
    from interlock.client.session import connect

    async def ask() -> dict[str, Any]:
        async with connect() as il:
            return await il.version(model, version)

    found = screen.finish(ask)
    if as_json:
        screen.print_json(found)
        return
    hidden = {name for name, value in found.items() if isinstance(value, (list, dict))} | {"manifest"}
    screen.print_facts({name: value for name, value in found.items() if name not in hidden})
    gate_table(found.get("gates") or [])
    approvals = found.get("approvals") or []
    if approvals:
        rows = [
            (each.get("endpoint"), each.get("approver"), each.get("note"), screen.moment(each.get("at")))
            for each in approvals
        ]
        screen.print_table(("APPROVED FOR", "BY", "NOTE", "AT"), rows, "")


def version_table(versions: Sequence[dict[str, Any]]) -> None:
    """Print versions, one a row."""
    rows = [
        (
            each["version"],
            each.get("state"),
            each.get("author"),
            screen.short(each.get("digest")),
            screen.short(each.get("commit")),
            screen.moment(each.get("registered_at")),
        )
        for each in versions
    ]
    screen.print_table(("VERSION", "STATE", "AUTHOR", "DIGEST", "COMMIT", "PUSHED"), rows, "No version yet.")


def gate_table(gates: Sequence[dict[str, Any]]) -> None:
    """Print gates, one a row: the figure, the bound, and what the champion reached on the same data."""
    rows = [
        (
            each.get("name"),
            each.get("verdict"),
            each.get("metric"),
            screen.number(each.get("value")),
            screen.number(each.get("bound")),
            screen.number(each.get("champion_value")),
            each.get("detail"),
        )
        for each in gates
    ]
    screen.print_table(
        ("GATE", "VERDICT", "METRIC", "VALUE", "BOUND", "CHAMPION", "DETAIL"), rows, "No gate was evaluated."
    )
