"""What every process of the platform can be told, by environment variables that begin with INTERLOCK_."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

SECRETS_FOLDER = Path("/run/secrets")
"""Where containers find what must not stand in their environment: a file per setting, named like it in lower case."""


def given(variable: str) -> str | None:
    """Return what an environment variable says, or the file of its name in SECRETS_FOLDER; None without either."""
    if variable in os.environ:
        return os.environ[variable]
    file = SECRETS_FOLDER / variable.lower()
    return file.read_text().strip() if file.is_file() else None


LIBRARIES = {"RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0"}
"""What libraries of a service read from the environment as they are imported.

A service has one event loop: without this, every call to a version would go through a thread of Ray Serve's and back,
and wait for the interpreter's lock each time (ADR 0014).
"""


def tell_libraries() -> None:
    """Set what libraries read from the environment, where nobody has said otherwise."""
    for variable, value in LIBRARIES.items():
        os.environ.setdefault(variable, value)


class PlatformSettings(BaseSettings):
    """The addresses and bounds that all services share; each service's own settings extend this."""

    model_config = SettingsConfigDict(
        env_prefix="INTERLOCK_",
        frozen=True,
        extra="ignore",
        secrets_dir=SECRETS_FOLDER if SECRETS_FOLDER.is_dir() else None,
    )

    kafka_bootstrap_servers: str = Field(
        "127.0.0.1:9092", description="Kafka's bootstrap servers, host:port, comma-separated."
    )
    kafka_security_protocol: str = Field("PLAINTEXT", description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.")
    kafka_sasl_mechanism: str = Field(
        "SCRAM-SHA-256", description="The SASL mechanism, where the protocol asks for one."
    )
    kafka_username: str | None = Field(None, description="The Kafka principal of this process, where SASL is used.")
    kafka_password: SecretStr | None = Field(None, description="The password of that principal.")
    postgres_dsn: SecretStr = Field(
        SecretStr("postgresql://127.0.0.1:5432/interlock"), description="This service's own database role and address."
    )
    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"), description="Redis or Valkey; only what can be rebuilt lives there."
    )
    router_processes: int = Field(
        1,
        ge=0,
        description="How many routers a stack starts; their lanes are spread over them. 0: one for each core.",
    )
    ray_address: str = Field("127.0.0.1:6380", description="The Ray cluster's GCS address, host:port.")
    blob_folder: Path = Field(Path("blobs"), description="The folder of the content-addressed store.")
    url: str = Field("http://127.0.0.1:8080", description="The registry's base URL.")
    monitor_url: str = Field("http://127.0.0.1:8084", description="The monitor's base URL.")
    auditor_url: str = Field("http://127.0.0.1:8085", description="The auditor's base URL.")
    witness_url: str = Field("http://127.0.0.1:8086", description="The audit witness's base URL.")
    token: SecretStr | None = Field(None, description="This process's own bearer token for the registry.")
    token_public_key_file: Path | None = Field(
        None, description="PEM file with the Ed25519 public key that tokens are checked against."
    )
    schema_registry_url: SecretStr = Field(
        SecretStr("http://127.0.0.1:8080/schema-registry"),
        description="Base URL of the schema registry (Confluent routes).",
    )
    http_host: str = Field("127.0.0.1", description="The address this process's HTTP server binds to.")
    http_port: int = Field(0, ge=0, le=65535, description="The port of this process's HTTP server; 0 takes a free one.")
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.")
    drain_seconds: float = Field(
        10.0, gt=0, description="How long a process may take to finish its work after SIGTERM."
    )
    connect_retry_seconds_max: float = Field(
        5.0, gt=0, description="The longest pause between two attempts to reach a server that is away."
    )
    http_body_bytes_max: int = Field(64 * 1024 * 1024, gt=0, description="The largest HTTP request body that is read.")
    kafka_replication_factor: int = Field(
        1, gt=0, description="Copies of each topic that the platform creates; 3 where there are three brokers."
    )
    kafka_session_seconds: float = Field(
        6.0, ge=6, description="How long Kafka waits for a silent consumer before another takes over."
    )
    postgres_connections_max: int = Field(10, gt=1, description="The most connections this process opens to Postgres.")
    outbox_poll_seconds: float = Field(
        0.5, gt=0, description="How often the outbox is looked at when nothing wakes its relay."
    )
    retry_seconds_max: float = Field(10.0, gt=0, description="The longest pause before a control event is tried again.")
    progress_seconds_max: float = Field(
        300.0, gt=0, description="A control event in hand, or waiting, for longer than this ends the process."
    )
    ready_seconds_max: float = Field(
        2.0, gt=0, description="How long a readiness check may take before it counts as failed."
    )
    cache_seconds_max: float = Field(0.25, gt=0, description="How long one call to the cache may take.")
