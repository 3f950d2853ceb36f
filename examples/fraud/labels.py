"""The truth about what was sent, as it becomes known: labels for the endpoint's label topic.

A third of the requests is looked into. Most labels say it once; a few are said twice, a few are wrong at first and
corrected, and some are about requests that nobody ever sent: what investigators and chargebacks are like.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from examples.fraud.features import NAMES
from examples.fraud.requests import ID_DIGITS
from examples.fraud.simulator import Flags, Floats, Integers
from interlock.clock import instant_of
from interlock.codec import rows
from interlock.schemas.events import LabelRecorded

LABELLED_EVERY: Final = 3
TWICE_EVERY: Final = 99
CORRECTED_EVERY: Final = 240
UNKNOWN: Final = 50
UNKNOWN_TRUTH: Final = False
_AMOUNT: Final = NAMES.index("amount")


@dataclass(frozen=True)
class Sent:
    """Requests that were sent: from row `start` of the stream on, each dated, under one letter."""

    start: int
    phase: str
    due_milliseconds: Integers


class Labels:
    """What is known of the stream's rows: the truth and the amount at stake."""

    def __init__(self, endpoint: str, fraud: Flags, columns: Floats) -> None:
        self._endpoint = endpoint
        self._fraud = fraud
        self._amount = columns[:, _AMOUNT]

    def of(self, sent: list[Sent], at_milliseconds: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield key and value of the labels about requests, learnt at a moment; a correction is learnt later."""
        for part in sent:
            for place, due in enumerate(part.due_milliseconds.tolist()):
                row = part.start + place
                if row % LABELLED_EVERY:
                    continue
                name, truth = f"{part.phase}{row:0{ID_DIGITS}d}", bool(self._fraud[row])
                wrong_at_first = row % CORRECTED_EVERY == 0
                yield self._label(row, name, due, truth ^ wrong_at_first, at_milliseconds, "investigation")
                if wrong_at_first:
                    yield self._label(row, name, due, truth, at_milliseconds + 1, "chargeback")
                elif row % TWICE_EVERY == 0:
                    yield self._label(row, name, due, truth, at_milliseconds, "investigation")
        for number in range(UNKNOWN):
            yield self._label(
                0, f"?{number:0{ID_DIGITS}d}", at_milliseconds - 5_000, UNKNOWN_TRUTH, at_milliseconds, "investigation"
            )

    def _label(
        self, row: int, request_id: str, requested_at: int, truth: bool, at_milliseconds: int, source: str
    ) -> tuple[bytes, bytes]:
        label = LabelRecorded(
            endpoint=self._endpoint,
            request_id=request_id,
            requested_at=instant_of(requested_at),
            label=float(truth),
            weight=float(self._amount[row]),
            source=source,
            at=instant_of(at_milliseconds),
        )
        return request_id.encode(), rows.encode(label)
