"""Observations are cut into blocks without losing a row, and joined with labels by id and time alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from interlock.codec.observations import Answered, Seen, event_time, observe
from interlock.codec.ragged import Ragged
from interlock.schemas.events import Observation
from interlock_monitor.quality_scores import PANE_MILLISECONDS, Block, Row, blocks, join, pane_of
from interlock_monitor.windows_reading import read

AT = 1_793_534_460_000
HOUR = 3_600_000


def answered(requested: list[int], ids: list[str], scores: list[float], arm: str = "champion") -> Answered:
    rows = len(ids)
    return Answered(
        arm=arm,
        model="fraud",
        version=2,
        digest="sha256:2",
        offsets=np.arange(70, 70 + rows, dtype=np.int64),
        requested_at=np.array(requested, dtype=np.int64),
        request_ids=Ragged.of([each.encode() for each in ids]),
        output_names=("score", "other"),
        outputs=np.stack([np.array(scores), np.full(rows, -1.0)], axis=1).reshape(rows, 2),
        feature_names=("amount",),
        features=np.zeros((rows, 1)),
    )


def observed(*groups: Answered, at: int = AT) -> Observation:
    moment = datetime.fromtimestamp(at / 1000, UTC)
    return observe(Seen("fraud", "fraud.requests", 1, 64, 99, 7, moment, moment, groups, ()), 10**9)


def truth(label: float, weight: float | None = None, at: int = AT + HOUR) -> Row:
    return Row(label, weight, at)


def test_a_batch_within_a_window_is_one_block_for_each_arm() -> None:
    """With all its rows, the first output as the score, and offsets that give the coordinates again."""
    found = list(
        blocks(
            read(
                observed(
                    answered([AT - 40, AT - 30], ["a", "bcd"], [0.25, 0.75]),
                    answered([AT - 20], ["é"], [0.5], "canary"),
                ),
                60_000,
            )
        )
    )
    assert [block.arm for block in found] == ["champion", "canary"]
    first = found[0]
    assert first[:4] == ("fraud", 60_000, (AT - 40) // 60_000 * 60_000, pane_of(AT - 40))
    assert np.frombuffer(first.scores).tolist() == [0.25, 0.75]
    assert (np.frombuffer(first.offsets, "<u4") + first.from_offset).tolist() == [70, 71]
    assert (first.request_ids, np.frombuffer(first.request_id_lengths, "<u4").tolist()) == (b"abcd", [1, 3])
    assert found[1].request_ids == "é".encode()


def test_rows_are_filed_by_event_time_and_found_by_their_own() -> None:
    """A clock two hours ahead: the window is the score's, the pane is that of the time that label and request say."""
    ahead = AT + 2 * HOUR
    block = next(iter(blocks(read(observed(answered([ahead], ["x"], [0.9])), 60_000))))
    assert block.window_start == AT // 60_000 * 60_000
    assert block.pane == ahead // PANE_MILLISECONDS
    rows, labelled, found = join([block], {(ahead, b"x"): truth(1.0, at=AT + 5_000)})
    assert (rows, labelled.labels.tolist(), found) == (1, [1.0], {(ahead, b"x")})
    assert labelled.lags.tolist() == [5.0], "from event time, which the sender's clock cannot move"


def test_a_label_learnt_before_its_request_has_no_lag() -> None:
    """Never a negative one."""
    block = next(iter(blocks(read(observed(answered([AT], ["x"], [0.9])), 60_000))))
    assert join([block], {(AT, b"x"): truth(1.0, at=AT - 5)})[1].lags.tolist() == [0.0]


def test_cutting_loses_no_row_and_moves_none() -> None:
    """Over window and pane bounds, from behind and from ahead, ids of all lengths."""
    random = np.random.default_rng(5)
    requested = [*(AT + random.integers(-200_000, 1_000, 500)).tolist(), AT + 3 * HOUR, AT - 900 * HOUR]
    ids = [f"r{'y' * int(random.integers(0, 9))}{row}" for row in range(502)]
    scores = random.random(502)
    observation = observed(answered(requested, ids, scores.tolist()))
    for window in (1_000, 5_000, 7_000, 60_000):
        cut = list(blocks(read(observation, window)))
        assert len({block[:4] for block in cut}) == len(cut)
        back: dict[str, tuple[int, float, int]] = {}
        for block in cut:
            lengths = np.frombuffer(block.request_id_lengths, "<u4").tolist()
            times = np.frombuffer(block.requested_at, "<i8").tolist()
            at = 0
            for length, time, score, offset in zip(
                lengths, times, np.frombuffer(block.scores), np.frombuffer(block.offsets, "<u4"), strict=True
            ):
                back[block.request_ids[at : at + length].decode()] = (time, score, block.from_offset + int(offset))
                at += length
                assert block.window_start == event_time(time, AT) // window * window
                assert block.pane == pane_of(time)
        assert back == {
            name: (time, score, 70 + row)
            for row, (name, time, score) in enumerate(zip(ids, requested, scores, strict=True))
        }


def test_only_the_same_id_at_the_same_time_is_the_same_request() -> None:
    """A label for another moment, or another id, finds nothing."""
    block = next(iter(blocks(read(observed(answered([AT, AT + 1], ["x", "y"], [0.1, 0.2])), 60_000))))
    labels = {(AT + 1, b"x"): truth(1.0), (AT, b"y"): truth(1.0), (AT, b"xy"): truth(1.0)}
    assert join([block], labels)[0] == 2
    assert len(join([block], labels)[1]) == 0


def test_a_request_that_was_sent_twice_is_two_rows_with_one_truth() -> None:
    """Both were answered, and both answers were right or wrong."""
    first = next(iter(blocks(read(observed(answered([AT], ["x"], [0.1])), 60_000))))
    second: Block = first._replace(from_offset=900, scores=np.array([0.8]).tobytes())
    rows, labelled, found = join([first, second], {(AT, b"x"): truth(1.0, 40.0)})
    assert (rows, labelled.scores.tolist(), labelled.weights.tolist()) == (2, [0.1, 0.8], [40.0, 40.0])
    assert len(found) == 1


def test_no_label_is_no_row_and_no_weight_is_one() -> None:
    """All labels missing leaves nothing labelled; a label without a weight weighs 1."""
    block = next(iter(blocks(read(observed(answered([AT, AT], ["x", "y"], [0.1, 0.2])), 60_000))))
    assert (join([block], {})[0], len(join([block], {})[1])) == (2, 0)
    assert join([block], {(AT, b"y"): truth(0.0)})[1].weights.tolist() == [1.0]


def test_groups_without_rows_or_outputs_give_no_block() -> None:
    """There is no score to keep."""
    mute = replace(answered([AT], ["x"], [0.1]), output_names=(), outputs=np.empty((1, 0)))
    assert list(blocks(read(observed(answered([], [], []), mute), 60_000))) == []


@pytest.mark.parametrize("requested", [-1, -5_000, -5_001])
def test_times_before_1970_have_a_pane(requested: int) -> None:
    """Label and request come to the same one."""
    block = next(iter(blocks(read(observed(answered([requested], ["x"], [0.1])), 60_000))))
    assert block.pane == pane_of(requested) < 0
