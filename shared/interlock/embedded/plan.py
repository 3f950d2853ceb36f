"""What a stack is made of: its parts, their ports, and the addresses that clients are told."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from interlock.embedded import EVERYTHING, SERVERS, SERVICES, jars, kafka, postgres, valkey
from interlock.embedded.home import Home
from interlock.embedded.part import Part
from interlock.embedded.ports import Ports


class UnknownPart(ValueError):
    """A part was asked for that does not exist."""


def with_needs(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names in starting order, services with the servers they need; raises UnknownPart."""
    wanted = set(names)
    if unknown := wanted - set(EVERYTHING):
        raise UnknownPart(f"There is no part {', '.join(sorted(unknown))}; there are {', '.join(EVERYTHING)}.")
    if wanted & set(SERVICES):
        wanted |= set(SERVERS)
    if wanted & {"deployer", "router"}:
        wanted.add("ray")
    if "auditor" in wanted:
        wanted.add("witness")
    return tuple(name for name in EVERYTHING if name in wanted)


def build(home: Home, names: Iterable[str], ports: Ports, usual: bool) -> tuple[list[Part], dict[str, str]]:
    """Return the parts and the client environment of a stack; reserves the ports."""
    wanted = with_needs(names)
    port = {name: ports.reserve(name, usual) for name in wanted}
    parts: list[Part] = []
    environment = {"INTERLOCK_HOME": str(home.folder), "INTERLOCK_BLOB_FOLDER": str(home.blobs)}
    if "kafka" in wanted:
        parts.append(kafka.part(home, port["kafka"], ports.reserve("kafka-controller", usual)))
        environment["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"] = kafka.bootstrap_servers(port["kafka"])
        environment["INTERLOCK_KAFKA_HOME"] = str(kafka_home())
    if "postgres" in wanted:
        parts.append(postgres.part(home, port["postgres"]))
        environment["INTERLOCK_POSTGRES_OWNER_DSN"] = postgres.dsn(home, port["postgres"])
        environment["INTERLOCK_POSTGRES_DSN"] = environment["INTERLOCK_POSTGRES_OWNER_DSN"]
    if "valkey" in wanted:
        parts.append(valkey.part(home, port["valkey"]))
        environment["INTERLOCK_REDIS_URL"] = valkey.url(home, port["valkey"])
    if "ray" in wanted:
        from interlock.embedded import ray_part

        parts.append(ray_part.part(home, port["ray"]))
        environment["INTERLOCK_RAY_ADDRESS"] = ray_part.address(port["ray"])
        environment |= ray_part.client_environment(home)
    names = tuple(name for name in wanted if name in SERVICES)
    if names:
        from interlock.embedded import services

        environment |= services.client_environment(home, port)
        servers = {part.name: part for part in parts}
        servers["kafka"] = services.with_topics(servers["kafka"], kafka.bootstrap_servers(port["kafka"]))
        servers["postgres"] = services.with_migrations(home, servers["postgres"], port["postgres"], names)
        parts = list(servers.values())
        started = tuple(process for name in names for process in services.processes(name))
        port |= {name: ports.reserve(name, usual) for name in started if name not in port}
        parts += services.parts(home, port, started, environment)
    return parts, environment


def kafka_home() -> Path:
    """Return the folder whose libs/*.jar run Kafka's own tools."""
    return jars.place().parent
