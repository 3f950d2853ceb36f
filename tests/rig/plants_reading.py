"""Bugs of what a lane reads: where it begins, which requests it takes, which route."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

from interlock.kafka.partition import Taken
from tests.rig.patching import spoil

_READER: Final = "interlock.kafka.partition:PartitionReader"

Inner = Callable[..., Awaitable[Any]]


def begins_at_the_end() -> None:
    """The lane does not go to the committed offset; it begins with what comes next."""

    def planted(inner: Inner) -> Inner:
        async def start(self: Any, offsets: Any, seconds_max: float) -> None:
            await inner(self, offsets, seconds_max)
            for source, offset in offsets.items():
                if offset is not None:
                    await self._consumer.seek_to_end(source)

        return start

    spoil(f"{_READER}.start", planted)


def begins_at_the_beginning() -> None:
    """The lane does not go to the committed offset; it begins with the first request."""

    def planted(inner: Inner) -> Inner:
        async def start(self: Any, offsets: Any, seconds_max: float) -> None:
            await inner(self, dict.fromkeys(offsets), seconds_max)

        return start

    spoil(f"{_READER}.start", planted)


def reads_uncommitted() -> None:
    """The lane takes requests of transactions that were aborted."""

    def planted(inner: Any) -> Any:
        def make(*arguments: Any, **more: Any) -> Any:
            return inner(*arguments, **{**more, "isolation_level": "read_uncommitted"})

        return make

    spoil("interlock.kafka.partition:make_consumer", planted)


def empty_requests_skipped() -> None:
    """A request without a value is passed over, as many readers do with tombstones."""

    def planted(inner: Inner) -> Inner:
        async def take(self: Any, seconds: float, rows_max: int) -> list[Taken]:
            taken = await inner(self, seconds, rows_max)
            left = [replace(each, records=[one for one in each.records if one.value is not None]) for each in taken]
            return left if any(each.records for each in left) else []

        return take

    spoil(f"{_READER}.take", planted)


def stale_epoch_accepted() -> None:
    """Whatever route came last is taken, however old it is."""

    def planted(inner: Any) -> Any:
        def apply(self: Any, route: Any) -> bool:
            self._tables.pop(route.endpoint, None)
            return bool(inner(self, route))

        return apply

    spoil("interlock_router.model:Routes.apply", planted)
