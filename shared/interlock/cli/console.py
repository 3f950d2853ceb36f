"""`interlock console`: where the web console is, and a browser on it where that is wanted."""

from __future__ import annotations

from typing import Annotated

import typer

from interlock.cli import screen


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("console")(console)


def console(
    show: Annotated[bool, typer.Option("--open", help="Open it in this machine's browser.")] = False,
) -> None:
    """Print the address of the web console; sign in there with a token of any role."""
    from interlock.client.addresses import find

    address = f"{find().url}/console"
    screen.console().print(address)
    screen.notes().print("Sign in with a token: `interlock token issue --subject NAME --role viewer`.", style="dim")
    if show:
        typer.launch(address)
