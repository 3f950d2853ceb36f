"""Kafka: the one home of its driver. Clients come from the factories here, with the settings that lose nothing."""

from __future__ import annotations

import ssl
from typing import Any

from interlock.settings import PlatformSettings

# A produce or commit must end before the broker gives the transaction up, so request < transaction timeout.
REQUEST_TIMEOUT_MILLISECONDS = 8_000
TRANSACTION_TIMEOUT_MILLISECONDS = 15_000
# Nobody but a lane writes to its partitions, so nobody waits for what it leaves open; a seal that was cut off must stay
# open until the next life goes on with it.
LANE_TRANSACTION_TIMEOUT_MILLISECONDS = 60_000
RETRY_BACKOFF_MILLISECONDS = 100
# Only for transactions: one follows the other while the broker still writes the markers of the first.
TRANSACTION_RETRY_BACKOFF_MILLISECONDS = 5
METADATA_AGE_MILLISECONDS_MAX = 10_000


def connection(settings: PlatformSettings) -> dict[str, Any]:
    """Return the arguments that every aiokafka client shares: where the brokers are and who is asking."""
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "security_protocol": settings.kafka_security_protocol,
        "request_timeout_ms": REQUEST_TIMEOUT_MILLISECONDS,
        "retry_backoff_ms": RETRY_BACKOFF_MILLISECONDS,
        "metadata_max_age_ms": METADATA_AGE_MILLISECONDS_MAX,
    }
    if settings.kafka_security_protocol.endswith("SSL"):
        arguments["ssl_context"] = ssl.create_default_context()
    if settings.kafka_security_protocol.startswith("SASL"):
        password = settings.kafka_password
        arguments |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_username,
            "sasl_plain_password": password.get_secret_value() if password is not None else None,
        }
    return arguments
