"""The platform's own services as parts, each with its own environment, token, port and database role."""

from __future__ import annotations

import asyncio
import getpass
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from interlock import cores
from interlock.embedded import postgres, ray_part
from interlock.embedded.home import Home, write_whole
from interlock.embedded.part import CannotStart, Launch, NotReady, Part, Report, base_environment, run_once

NEEDS_RAY = ("deployer", "router")
NEEDS_NOTHING = ("witness",)
"""Services without database and Kafka."""
WITHHELD = {
    "witness": (
        "INTERLOCK_POSTGRES_DSN", "INTERLOCK_REDIS_URL", "INTERLOCK_KAFKA_BOOTSTRAP_SERVERS", "INTERLOCK_TOKEN",
        "INTERLOCK_SCHEMA_REGISTRY_URL",
    ),
}  # fmt: skip
"""What a service has no business to know."""
MIGRATE_SECONDS_MAX = 60.0
SERVICE_TOKEN_SECONDS = 365 * 24 * 3600
PERSON_TOKEN_SECONDS = 30 * 24 * 3600
PERSON_ROLES = ("author", "approver", "operator", "viewer")
ANSWER_SECONDS_MAX = 5.0
ALLOWED_PREFIXES = ("INTERLOCK_", "OTEL_")


def person() -> str:
    """Return the name under which the token of this machine's user speaks."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"


def keys(home: Home, name: str = "token") -> tuple[bytes, bytes]:
    """Return an Ed25519 pair of the stack (private PEM, public PEM); the first call makes it.

    `token` signs tokens, `audit` the audit log's checkpoints, `witness` the witness's cosignatures.
    """
    from interlock.auth import generate_keys

    private, public = home.secret_file(f"{name}-private.pem"), home.secret_file(f"{name}-public.pem")
    if not (private.exists() and public.exists()):
        made = generate_keys()
        write_whole(private, made[0])
        write_whole(public, made[1])
    return private.read_bytes(), public.read_bytes()


def token(home: Home, subject: str, roles: tuple[str, ...], seconds: int) -> str:
    """Return a new token signed with the stack's key; raises ValueError for an unknown role."""
    from interlock.auth import issue

    return issue(keys(home)[0], subject, roles, seconds, datetime.now(UTC))


def client_environment(home: Home, port: Mapping[str, int]) -> dict[str, str]:
    """Return the addresses and the token that a person's clients need."""
    name, secret = person(), token(home, person(), PERSON_ROLES, PERSON_TOKEN_SECONDS)
    place = f"127.0.0.1:{port['registry']}" if "registry" in port else None
    found = {"INTERLOCK_TOKEN": secret, "INTERLOCK_TOKEN_PUBLIC_KEY_FILE": str(home.secret_file("token-public.pem"))}
    if place is not None:
        found["INTERLOCK_URL"] = f"http://{place}"
        found["INTERLOCK_GIT_URL"] = f"http://{name}:{secret}@{place}/git"
        found["INTERLOCK_SCHEMA_REGISTRY_URL"] = f"http://{name}:{secret}@{place}/schema-registry"
    for each in ("monitor", "auditor", "witness"):
        if each in port:
            found[f"INTERLOCK_{each.upper()}_URL"] = f"http://127.0.0.1:{port[each]}"
    for each in ("audit", "witness"):
        keys(home, each)
        found[f"INTERLOCK_{each.upper()}_PUBLIC_KEY_FILE"] = str(home.secret_file(f"{each}-public.pem"))
    return found


def with_migrations(home: Home, part: Part, port: int, names: tuple[str, ...]) -> Part:
    """Return the PostgreSQL part with the services' schemas brought up to date once it is ready."""
    done = asyncio.Event()

    async def follow_up(report: Report) -> None:
        kept = [name for name in names if name not in NEEDS_NOTHING]
        if done.is_set() or not kept:
            return
        report("bringing the schemas up to date")
        passwords = {f"INTERLOCK_POSTGRES_PASSWORD_{name.upper()}": _password(home, name) for name in kept}
        environment = base_environment() | passwords | {"INTERLOCK_POSTGRES_OWNER_DSN": postgres.dsn(home, port)}
        command = [sys.executable, "-m", "interlock.cli", "migrate", *kept]
        try:
            await run_once(command, environment, MIGRATE_SECONDS_MAX)
        except NotReady as error:
            raise CannotStart(f"The database schemas could not be brought up to date: {error}") from error
        done.set()

    return replace(part, follow_up=follow_up)


def with_topics(part: Part, bootstrap_servers: str) -> Part:
    """Return the Kafka part with the control plane's topics made once it is ready."""

    async def follow_up(report: Report) -> None:
        from interlock.errors import Refusal
        from interlock.kafka.admin import ensure_topics
        from interlock.schemas import control_topics
        from interlock.settings import PlatformSettings

        report("making the control topics")
        try:
            await ensure_topics(PlatformSettings(kafka_bootstrap_servers=bootstrap_servers), control_topics())
        except Refusal as error:
            raise CannotStart(str(error)) from error

    return replace(part, follow_up=follow_up)


def _password(home: Home, service: str) -> str:
    return home.secret(f"postgres-interlock_{service}")


def processes(name: str) -> tuple[str, ...]:
    """Return the names of the processes of a service: its own, then `<name>-2` and so on where the settings ask."""
    from interlock.settings import PlatformSettings

    if name != "router":
        return (name,)
    count = PlatformSettings().router_processes or cores.usable()
    return (name, *(f"{name}-{number}" for number in range(2, count + 1)))


def parts(home: Home, port: Mapping[str, int], names: tuple[str, ...], client: Mapping[str, str]) -> list[Part]:
    """Return the parts of the named processes."""
    return [_part(home, port, name, client) for name in names]


def _service(name: str) -> str:
    return name.partition("-")[0]


def _environment(home: Home, port: int, postgres_port: int, name: str, client: Mapping[str, str]) -> dict[str, str]:
    secret = token(home, name, ("service",), SERVICE_TOKEN_SECONDS)
    own = {key: value for key, value in os.environ.items() if key.startswith(ALLOWED_PREFIXES)}
    given = {key: value for key, value in client.items() if not key.startswith("RAY_")}
    if "INTERLOCK_URL" in client:
        place = client["INTERLOCK_URL"].removeprefix("http://")
        given["INTERLOCK_SCHEMA_REGISTRY_URL"] = f"http://{name}:{secret}@{place}/schema-registry"
    withheld = ("INTERLOCK_POSTGRES_OWNER_DSN", "INTERLOCK_GIT_URL", "INTERLOCK_HOME", *WITHHELD.get(name, ()))
    environment = base_environment() | own | given
    environment |= {
        "INTERLOCK_TOKEN": secret,
        "INTERLOCK_POSTGRES_DSN": postgres.dsn(home, postgres_port, f"interlock_{name}"),
        "INTERLOCK_HTTP_PORT": str(port),
        "MALLOC_ARENA_MAX": "2",
    }
    if name == "registry":
        environment["INTERLOCK_GIT_FOLDER"] = str(home.folder / "git")
    if name == "auditor":
        environment["INTERLOCK_AUDIT_KEY_FILE"] = str(home.secret_file("audit-private.pem"))
    if name == "witness":
        environment["INTERLOCK_WITNESS_KEY_FILE"] = str(home.secret_file("witness-private.pem"))
        environment["INTERLOCK_WITNESS_FOLDER"] = str(home.folder / "witness")
    if name in NEEDS_RAY:
        environment |= ray_part.client_environment(home)
    return {key: value for key, value in environment.items() if key not in withheld}


def _part(home: Home, port: Mapping[str, int], name: str, client: Mapping[str, str]) -> Part:
    service = _service(name)
    environment = _environment(home, port[name], port["postgres"], service, client)

    def launch() -> Launch:
        return Launch([sys.executable, "-m", "interlock.cli", "run", service], environment)

    async def ready() -> None:
        await ask_readiness(port[name])

    ray = ("ray",) if service in NEEDS_RAY else ()
    servers = () if service in NEEDS_NOTHING else ("kafka", "postgres", "valkey", *ray)
    return Part(
        name, port[name], launch, ready, after=servers, stop_seconds=20.0, ready_seconds=90.0, patient=True
    )  # fmt: skip


async def ask_readiness(port: int) -> None:
    """Ask a service whether it is ready; raises NotReady with its answer, or OSError."""
    reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), ANSWER_SECONDS_MAX)
    try:
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(65_536), ANSWER_SECONDS_MAX)
    except TimeoutError:
        raise NotReady("it gave no answer.") from None
    finally:
        writer.close()
    status = answer.split(b" ", 2)[1:2]
    if status != [b"200"]:
        body = answer.partition(b"\r\n\r\n")[2].decode(errors="replace")[:300]
        raise NotReady(f"it answered {b''.join(status).decode()} {body}")
