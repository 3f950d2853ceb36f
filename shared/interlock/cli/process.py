"""`interlock run | migrate`: the parts one by one, as a grown installation starts them."""

from __future__ import annotations

from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from interlock.cli import screen
from interlock.errors import Code, Refusal
from interlock.settings import given

OWNER_DSN_MISSING = Code(
    "OWNER_DSN_MISSING",
    400,
    "The database owner's address is not known",
    "Set INTERLOCK_POSTGRES_OWNER_DSN to the address of the role that owns the database.",
)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("run")(run_service)
    app.command("migrate")(migrate)


def run_service(service: Annotated[str, typer.Argument(help="registry, builder, deployer, router, …")]) -> None:
    """Run one service in the foreground until SIGTERM; settings come from INTERLOCK_* variables."""
    from interlock.service import run

    raise typer.Exit(run(service))


def migrate(
    services: Annotated[list[str] | None, typer.Argument(help="The services; all installed ones by default.")] = None,
    topics: Annotated[bool, typer.Option("--topics", help="Make the control plane's topics on Kafka too.")] = False,
) -> None:
    """Bring the services' database schemas to what their code expects.

    Needs INTERLOCK_POSTGRES_OWNER_DSN. A service's role gets the password in INTERLOCK_POSTGRES_PASSWORD_<SERVICE>;
    without that variable the role must exist already. Either may be a file in /run/secrets instead.
    """
    from interlock.postgres.migrate import migrate as apply

    owner_dsn = given("INTERLOCK_POSTGRES_OWNER_DSN")
    if not owner_dsn:
        raise Refusal(OWNER_DSN_MISSING, "INTERLOCK_POSTGRES_OWNER_DSN is not set.")

    async def whole() -> None:
        for service, folder in migration_folders().items():
            if services and service not in services:
                continue
            password = given(f"INTERLOCK_POSTGRES_PASSWORD_{service.upper()}")
            applied = await apply(owner_dsn, service, [folder], password)
            screen.console().print(f"{service}: {', '.join(applied) if applied else 'nothing new'}")
        if topics:
            made = await _make_topics()
            screen.console().print(f"topics: {', '.join(made) if made else 'nothing new'}")

    screen.finish(whole)


async def _make_topics() -> list[str]:
    """Make the control topics that are missing, by the INTERLOCK_KAFKA_* variables; return their names."""
    from interlock.kafka.admin import ensure_topics
    from interlock.schemas import control_topics
    from interlock.settings import PlatformSettings

    return await ensure_topics(PlatformSettings(), control_topics())


def migration_folders() -> dict[str, Path]:
    """Return the folder of SQL files of every installed service that has one."""
    folders = {}
    for point in entry_points(group="interlock.services"):
        package = point.module.partition(".")[0]
        if package != f"interlock_{point.name}":
            continue  # one more process of a service, which brings no schema of its own
        spec = find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            folder = Path(place) / "sql"
            if folder.is_dir():
                folders[point.name] = folder
    return folders
