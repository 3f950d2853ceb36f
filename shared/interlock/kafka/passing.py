"""What counts as Kafka being away, for those who run the driver through a framework of others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka.errors import KafkaError

from interlock.errors import Transient


@contextmanager
def passing(what: str) -> Iterator[None]:
    """Turn a failure of the driver inside the body into Transient; anything else goes through as it is.

    The driver cancels tasks of its own and lets that be seen: such a CancelledError is one of its failures.
    """
    try:
        yield
    except (KafkaError, OSError) as error:
        raise Transient(f"{what}: {type(error).__name__}: {error}") from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise Transient(f"{what}: a task of the driver was cancelled") from error
