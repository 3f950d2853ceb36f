"""Bugs of the batch: who answers, what stands in a result, in which order, and what is told of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from interlock.kafka.transaction import Outgoing
from interlock_router.model import WEIGHTS
from tests.rig.patching import like, records_of, spoil

_ENCODER: Final = "interlock_router.results:ResultEncoder"
_OUTGOING: Final = "interlock_router.lane:Lane._outgoing"


def version_of_another_arm() -> None:
    """Results name the version of the next arm."""
    _provenance(lambda arm, other: replace(arm, version=other.version))


def digest_of_another_arm() -> None:
    """Results name the digest of the next arm."""
    _provenance(lambda arm, other: replace(arm, digest=other.digest))


def key_routed_by_the_hash_of_python() -> None:
    """The arm is chosen by `hash`, which every process seeds anew."""

    def planted(inner: Any) -> Any:
        def split(self: Any, keys: Sequence[bytes]) -> Any:
            slots = np.array([hash(key) % WEIGHTS for key in keys], dtype=np.int64)
            chosen = np.searchsorted(np.cumsum([arm.weight for arm in self.arms]), slots, side="right")
            groups = ((arm, np.flatnonzero(chosen == index)) for index, arm in enumerate(self.arms))
            return [(arm, rows) for arm, rows in groups if rows.size]

        return split

    spoil("interlock_router.model:RouteTable.split", planted)


def scores_shifted_by_a_row() -> None:
    """Every request gets the score of the one before it."""
    _outputs(lambda outputs: np.roll(outputs, 1, axis=0))


def scores_in_single_precision() -> None:
    """Scores lose the digits that 32 bits have no room for."""
    _outputs(lambda outputs: outputs.astype(np.float32).astype(np.float64))


def results_in_reverse_order() -> None:
    """The results of a batch are written from its last request to its first."""

    def planted(inner: Any) -> Any:
        def outgoing(self: Any, portion: Any, *more: Any) -> list[Outgoing]:
            return [_changed(self, each, lambda records: records[::-1]) for each in inner(self, portion, *more)]

        return outgoing

    spoil(_OUTGOING, planted)


def values_under_others_keys() -> None:
    """The results of a batch are written in reverse, their keys are not."""

    def planted(inner: Any) -> Any:
        def encode(self: Any, *arguments: Any) -> Any:
            values = inner(self, *arguments)
            return like(values, list(values)[::-1])

        return encode

    spoil(f"{_ENCODER}.encode", planted)


def values_cut_short() -> None:
    """Every result lacks its last byte."""

    def planted(inner: Any) -> Any:
        def encode(self: Any, *arguments: Any) -> Any:
            values = inner(self, *arguments)
            return like(values, [value[:-1] for value in values])

        return encode

    spoil(f"{_ENCODER}.encode", planted)


def ids_shifted_by_a_row() -> None:
    """Every result bears the request id of the one before it."""

    def planted(inner: Callable[..., Awaitable[Any]]) -> Any:
        async def read(*arguments: Any) -> Any:
            batch = await inner(*arguments)
            *others, last = batch.request_ids
            batch.request_ids = like(batch.request_ids, [last, *others])
            batch.__dict__.pop("ids", None)  # the same as a column, where somebody has asked for it
            return batch

        return read

    spoil("interlock_router.lane:read", planted)


def piece_of_a_split_lost() -> None:
    """Where a poll is cut in pieces, the first one gets lost."""

    def planted(inner: Callable[..., Iterator[Any]]) -> Any:
        def pieces(records: Sequence[Any], bytes_max: int) -> Iterator[Any]:
            found = list(inner(records, bytes_max))
            yield from found[1:] or found

        return pieces

    spoil("interlock_router.lane:_pieces", planted)


def rejected_request_without_a_word() -> None:
    """A request that cannot be scored gets neither result nor dead letter."""
    _rejections(keeps_results=False, keeps_letters=False)


def dead_letter_without_a_result() -> None:
    """A request that cannot be scored becomes a dead letter, and its caller hears nothing."""
    _rejections(keeps_results=False, keeps_letters=True)


def rejection_without_a_dead_letter() -> None:
    """A request that cannot be scored is rejected, and nobody keeps it."""
    _rejections(keeps_results=True, keeps_letters=False)


def digest_of_the_wrong_rows() -> None:
    """The batch's digest is made of its results in another order."""

    def planted(inner: Any) -> Any:
        def told(stretch: Any, batch: Any, scored: Any, values: Any, *more: Any) -> Any:
            first, *others = values
            return inner(stretch, batch, scored, like(values, [*others, first]), *more)

        return told

    spoil("interlock_router.lane:batches_answered", planted)


def observation_of_the_wrong_rows() -> None:
    """The monitor is told the outputs of other rows."""

    def planted(inner: Any) -> Any:
        def answered(*arguments: Any) -> Any:
            found = inner(*arguments)
            return replace(found, outputs=np.roll(found.outputs, 1, axis=0))

        return answered

    spoil("interlock_router.observe:_answered", planted)


def observation_begins_at_its_first_row() -> None:
    """What lies between two batches (aborted requests, markers) is in no observation."""
    spoil("interlock_router.lane:begin", lambda _: _first_of)


def _first_of(behind: int | None, first_offset: int) -> int:
    return first_offset


def _provenance(change: Callable[[Any, Any], Any]) -> None:
    """Have results say something of the arm behind the one that answered."""

    def planted(inner: Any) -> Any:
        def provenance(self: Any, arm: Any, schema_id: int) -> bytes:
            if arm is not None:
                names = [each.name for each in self._table.arms]
                arm = change(arm, self._table.arms[(names.index(arm.name) + 1) % len(names)])
            return bytes(inner(self, arm, schema_id))

        return provenance

    spoil(f"{_ENCODER}._provenance", planted)


def _outputs(change: Callable[[Any], Any]) -> None:
    """Change what a version answered before it is checked."""

    def planted(inner: Any) -> Any:
        def check(arm: Any, rows: Any, features: Any, outputs: Any, rejected: Any) -> Any:
            return inner(arm, rows, features, change(outputs), rejected)

        return check

    spoil("interlock_router.score:_check", planted)


def _rejections(*, keeps_results: bool, keeps_letters: bool) -> None:
    """Leave out what belongs to rejected rows."""

    def planted(inner: Any) -> Any:
        def outgoing(self: Any, portion: Any, *more: Any) -> list[Outgoing]:
            gone = set() if keeps_results else {each.row for each in portion.scored.rejected}

            def left(records: list[Any]) -> list[Any]:
                return [each for row, each in enumerate(records) if row not in gone]

            return [
                _changed(self, each, left)
                for each in inner(self, portion, *more)
                if keeps_letters or not each.topic.endswith(".dead-letters")
            ]

        return outgoing

    spoil(_OUTGOING, planted)


def _changed(lane: Any, outgoing: Outgoing, change: Callable[[list[Any]], list[Any]]) -> Outgoing:
    """Return outgoing records, those of results changed."""
    if not outgoing.topic.endswith(".results"):
        return outgoing
    return replace(outgoing, records=change(records_of(outgoing)))
