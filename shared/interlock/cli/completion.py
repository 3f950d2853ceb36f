"""`interlock completion`, and the names that it completes: models, versions, endpoints of the registry."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Any

import typer

from interlock.errors import InterlockError

ANSWER_SECONDS_MAX = 1.0
SHELLS = ("bash", "zsh", "fish")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("completion")(completion)


def completion(shell: Annotated[str, typer.Argument(help="bash, zsh or fish.")]) -> None:
    """Print the completion script; for bash: `source <(interlock completion bash)`."""
    from typer._completion_shared import get_completion_script

    if shell not in SHELLS:
        raise typer.BadParameter(f"{shell!r} is none of {', '.join(SHELLS)}.")
    sys.stdout.write(
        get_completion_script(prog_name="interlock", complete_var="_INTERLOCK_COMPLETE", shell=shell) + "\n"
    )


def model_names(incomplete: str) -> list[str]:
    """Return the models whose names begin so."""
    return _beginning(incomplete, [each["model"] for each in _listed("models")])


def endpoint_names(incomplete: str) -> list[str]:
    """Return the endpoints whose names begin so."""
    return _beginning(incomplete, [each["name"] for each in _listed("endpoints")])


def version_numbers(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the version numbers of the model that was typed before."""
    model = ctx.params.get("model")
    return _beginning(incomplete, [str(each["version"]) for each in _listed("versions", model)]) if model else []


def endpoint_versions(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the version numbers of the model behind the endpoint that was typed before."""
    endpoint = ctx.params.get("endpoint")
    models = [each["model"] for each in _listed("endpoints") if each["name"] == endpoint]
    return _beginning(incomplete, [str(each["version"]) for each in _listed("versions", models[0])]) if models else []


def _beginning(incomplete: str, names: list[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _listed(what: str, *arguments: Any) -> list[dict[str, Any]]:
    """Ask the registry for a list; a shell that completes must neither wait nor print an error."""
    from interlock.client.session import connect

    async def ask() -> list[dict[str, Any]]:
        async with connect() as il, asyncio.timeout(ANSWER_SECONDS_MAX):
            found: list[dict[str, Any]] = await getattr(il, what)(*arguments)
            return found

    try:
        return asyncio.run(ask())
    except (InterlockError, TimeoutError):
        return []
