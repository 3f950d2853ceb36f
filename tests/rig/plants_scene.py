"""What a scene changes in the product beside a bug: routes that come in the middle of the work, shorter patience."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import interlock.kafka
import interlock.kafka.producer
from tests.rig.patching import spoil

REROUTES: Final = ((4, 3, ((2, 10_000),)), (8, 2, ((1, 10_000),)))
"""After how many commits of the process which epoch comes, and its versions and weights; the last one is stale."""

IMPATIENT_MILLISECONDS: Final = 2_000


def reroute() -> None:
    """Have later routes come while the lanes work: a newer one, then one that is older than that."""
    rigs: list[Any] = []
    count = 0

    def noted(inner: Any) -> Any:
        def begin(self: Any, *arguments: Any) -> None:
            rigs.append(self)
            inner(self, *arguments)

        return begin

    def planted(inner: Callable[..., Awaitable[None]]) -> Any:
        async def commit(self: Any, *arguments: Any) -> None:
            nonlocal count
            await inner(self, *arguments)
            count += 1
            for after, epoch, versions in REROUTES:
                if count == after:
                    rigs[-1].epoch = epoch - 1
                    rigs[-1].route(*versions)

        return commit

    spoil("tests.integration.router.rig:Rig.__init__", noted)
    spoil("interlock.kafka.transaction:PartitionTransactions.commit", planted)


def impatient() -> None:
    """Wait for an answer of Kafka's only for a moment, so that a scene with a lost one does not take long."""
    interlock.kafka.REQUEST_TIMEOUT_MILLISECONDS = IMPATIENT_MILLISECONDS


PARTS: Final[Mapping[str, Callable[[], None]]] = {"reroute": reroute, "impatient": impatient}
