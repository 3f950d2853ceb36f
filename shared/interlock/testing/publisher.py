"""A publisher that remembers what it was given, and can be told to fail as Kafka does."""

from __future__ import annotations

from collections.abc import Sequence

from interlock.errors import Transient
from interlock.kafka.message import Message


class RecordingPublisher:
    """Keeps published messages in order.

    While `fail_before` counts down a batch is lost; while `fail_after` does, it is kept and denied.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.batches = 0
        self.fail_before = 0
        self.fail_after = 0

    async def open(self) -> None:
        """Become ready."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Remember the batch, or raise Transient before or after doing so."""
        if self.fail_before:
            self.fail_before -= 1
            raise Transient("told to fail before", retry_seconds=0.01)
        self.messages.extend(messages)
        self.batches += 1
        if self.fail_after:
            self.fail_after -= 1
            raise Transient("told to fail after", retry_seconds=0.01)

    async def close(self) -> None:
        """Let go."""
