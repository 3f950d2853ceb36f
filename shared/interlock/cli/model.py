"""`interlock model`: the named lines of versions."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from interlock.cli import screen
from interlock.cli.completion import model_names
from interlock.cli.screen import AsJson

ModelName = Annotated[str, typer.Argument(help="The model's name.", autocompletion=model_names)]


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    from interlock.cli.export import register as register_export

    group = typer.Typer(no_args_is_help=True, help="List and show models; export one from scikit-learn.")
    group.command("list")(list_models)
    group.command("show")(show_model)
    register_export(group)
    app.add_typer(group, name="model")


def list_models(as_json: AsJson = False) -> None:
    """List every model with its owner."""
    from interlock.client.session import connect

    async def ask() -> list[dict[str, Any]]:
        async with connect() as il:
            return await il.models()

    models = screen.finish(ask)
    if as_json:
        screen.print_json(models)
        return
    rows = [
        (
            each["model"],
            each.get("owner"),
            each.get("created_by"),
            each.get("newest_version"),
            screen.moment(each.get("created_at")),
        )
        for each in models
    ]
    screen.print_table(
        ("MODEL", "OWNER", "FIRST PUSHED BY", "NEWEST", "SINCE"),
        rows,
        "No model yet. Push one to the address INTERLOCK_GIT_URL of `interlock env`.",
    )


def show_model(model: ModelName, as_json: AsJson = False) -> None:
    """Show one model and its versions."""
    from interlock.cli.version import version_table
    from interlock.client.session import connect

    async def ask() -> tuple[dict[str, Any], list[dict[str, Any]]]:
        async with connect() as il:
            return await il.model(model), await il.versions(model)

    found, versions = screen.finish(ask)
    if as_json:
        screen.print_json(found | {"versions": versions})
        return
    screen.print_facts({name: value for name, value in found.items() if not isinstance(value, (list, dict))})
    version_table(versions)
