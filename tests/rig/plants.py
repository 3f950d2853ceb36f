"""Bugs to be planted one at a time in a child process, each with the scene that shows it and what it must be called.

`apply(name)` patches named methods of the product; where one of them is gone it raises AttributeError, so that no
plant can outlive the code that it spoils. A name may have several parts, joined by `+`: parts that are in no list of
bugs (`reroute`, `impatient`) are what a scene needs with and without a bug.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tests.rig import plants_batch, plants_control, plants_lane, plants_reading, plants_scene
from tests.rig.history import Kind

JOINT: Final = "+"


@dataclass(frozen=True)
class Plant:
    """One bug."""

    name: str
    spoil: Callable[[], None]
    scene: str
    """The scene that must show it (`tests.rig.scenes.SCENES`, `tests.rig.scenes_control.SCENES`)."""
    kinds: frozenset[Kind]
    """What it must be called: each of these must be among the violations."""


def _plant(spoil: Callable[[], None], scene: str, *kinds: Kind) -> Plant:
    return Plant(spoil.__name__.replace("_", "-"), spoil, scene, frozenset(kinds))


_ALL: Final = (
    # The transaction: what is in it, what it is for, who may have one.
    _plant(plants_lane.commit_before_send, "killed-at-begin", Kind.LOST),
    _plant(plants_lane.offsets_before_the_transaction, "killed-at-begin", Kind.LOST, Kind.TORN),
    _plant(plants_lane.offsets_after_the_transaction, "killed-behind-commit", Kind.DUPLICATE),
    _plant(plants_lane.offsets_outside_the_transaction, "steady", Kind.TORN),
    _plant(plants_lane.offsets_of_every_other_batch, "steady", Kind.TORN),
    _plant(plants_lane.offset_one_too_far, "steady", Kind.OFFSET_AHEAD),
    _plant(plants_lane.offset_one_too_near, "steady", Kind.TORN),
    _plant(plants_lane.at_least_once_where_exactly_once_is_asked_for, "steady", Kind.TORN),
    _plant(plants_lane.one_replica_is_enough, "watched", Kind.WEAK_ACKS),
    _plant(plants_lane.abort_taken_for_commit, "steady", Kind.LOST, Kind.OBSERVATION_GAP),
    _plant(plants_lane.batches_committed_out_of_order, "steady", Kind.ORDER, Kind.OFFSET_REGRESSION),
    _plant(plants_lane.results_in_another_partition, "steady", Kind.WRONG_COORDINATES),
    _plant(plants_lane.random_transactional_id, "zombie", Kind.DUPLICATE, Kind.OFFSET_REGRESSION),
    _plant(plants_lane.committed_read_before_the_fence, "zombie-between", Kind.DUPLICATE),
    _plant(plants_lane.doubt_repeated_without_the_witness, "lost-answer", Kind.DUPLICATE),
    _plant(plants_lane.producer_reused_after_doubt, "lost-request", Kind.DUPLICATE),
    _plant(plants_lane.doubt_taken_for_success, "lost-request", Kind.LOST),
    _plant(plants_lane.observation_outside_the_transaction, "steady", Kind.TORN),
    _plant(plants_lane.dead_letter_outside_the_transaction, "steady", Kind.TORN),
    _plant(plants_lane.digest_outside_the_transaction, "steady", Kind.TORN),
    # Where a lane begins, and what it reads.
    _plant(plants_reading.begins_at_the_end, "killed-at-begin", Kind.LOST),
    _plant(plants_reading.begins_at_the_beginning, "killed-at-begin", Kind.DUPLICATE),
    _plant(plants_reading.reads_uncommitted, "steady", Kind.ABORTED_VISIBLE),
    _plant(plants_reading.empty_requests_skipped, "steady", Kind.LOST),
    _plant(plants_reading.stale_epoch_accepted, "rerouted", Kind.STALE_EPOCH),
    # The batch: who answers, what, in which order, and what is told of it.
    _plant(plants_batch.version_of_another_arm, "steady", Kind.WRONG_VERSION),
    _plant(plants_batch.digest_of_another_arm, "steady", Kind.WRONG_VERSION),
    _plant(plants_batch.key_routed_by_the_hash_of_python, "steady", Kind.WRONG_VERSION),
    _plant(plants_batch.scores_shifted_by_a_row, "steady", Kind.WRONG_SCORE),
    _plant(plants_batch.scores_in_single_precision, "steady", Kind.WRONG_SCORE),
    _plant(plants_batch.results_in_reverse_order, "steady", Kind.ORDER),
    _plant(plants_batch.values_under_others_keys, "steady", Kind.WRONG_COORDINATES),
    _plant(plants_batch.values_cut_short, "steady", Kind.UNREADABLE),
    _plant(plants_batch.ids_shifted_by_a_row, "steady", Kind.WRONG_COORDINATES),
    _plant(plants_batch.piece_of_a_split_lost, "steady", Kind.LOST),
    _plant(plants_batch.rejected_request_without_a_word, "steady", Kind.LOST),
    _plant(plants_batch.dead_letter_without_a_result, "steady", Kind.HALF_REJECTED),
    _plant(plants_batch.rejection_without_a_dead_letter, "steady", Kind.HALF_REJECTED),
    _plant(plants_batch.digest_of_the_wrong_rows, "steady", Kind.COUNT),
    _plant(plants_batch.observation_of_the_wrong_rows, "steady", Kind.COUNT),
    _plant(plants_batch.observation_begins_at_its_first_row, "steady", Kind.OBSERVATION_GAP),
    # The control plane.
    _plant(plants_control.naive_outbox, "slow-writer", Kind.EVENT_LOST),
    _plant(plants_control.outbox_in_the_order_of_transactions, "late-writer", Kind.EVENT_ORDER),
    _plant(plants_control.marked_before_published, "killed-before-publishing", Kind.EVENT_LOST),
    _plant(plants_control.published_again_under_another_id, "killed-before-marking", Kind.EVENT_DUPLICATE),
    _plant(plants_control.published_before_the_commit, "killed-before-the-commit", Kind.ABORTED_VISIBLE),
    _plant(plants_control.no_inbox, "killed-before-the-offset", Kind.EVENT_DUPLICATE),
    _plant(plants_control.inbox_in_a_transaction_of_its_own, "killed-behind-the-inbox", Kind.EVENT_LOST),
    _plant(plants_control.offset_before_the_effect, "killed-before-handling", Kind.EVENT_LOST),
    _plant(plants_control.lease_ignored, "two-leaders", Kind.STALE_EPOCH),
)

PLANTS: Final[Mapping[str, Plant]] = {each.name: each for each in _ALL}
"""Every bug; the list is closed."""


def apply(name: str) -> None:
    """Plant what `name` names in this process; raises KeyError for unknown names, AttributeError for lost targets."""
    for part in name.split(JOINT):
        if part in PLANTS:
            PLANTS[part].spoil()
        else:
            plants_scene.PARTS[part]()
