"""Events of the control plane, judged: what was decided was said, in order, and took effect once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tests.rig.history import Effect, Journalled, Kind, Published, Violation


def check_events(
    journal: Sequence[Journalled], published: Sequence[Published], effects: Sequence[Effect] | None = None
) -> list[Violation]:
    """Return what is wrong between a journal, what was published of it, and what a reader made of that.

    An event may be published again under its own id with the same bytes, for its reader drops it then; `effects` are
    one for each time that it did not, None where the test has no reader.
    """
    known = {each.event_id: each for each in journal}
    return [
        *_epochs(journal),
        *_said(journal, known, published),
        *_in_order(known, published),
        *(() if effects is None else _took_effect(journal, known, effects)),
    ]


def _epochs(journal: Sequence[Journalled]) -> Iterator[Violation]:
    """No lease's older epoch decides behind a newer one."""
    newest = 0
    for each in journal:
        if each.epoch is not None:
            if each.epoch < newest:
                yield _about(Kind.STALE_EPOCH, each, f"epoch {newest} or later", f"epoch {each.epoch}")
            newest = max(newest, each.epoch)


def _said(
    journal: Sequence[Journalled], known: dict[str, Journalled], published: Sequence[Published]
) -> Iterator[Violation]:
    """Everything in the journal was published as it stands there, and nothing else."""
    there = {each.event_id for each in published}
    contents = {(each.topic, each.key, each.value): each for each in journal}
    for each in journal:
        if each.event_id not in there:
            yield _about(Kind.EVENT_LOST, each, "published", "not")
    for said in published:
        event = known.get(said.event_id)
        if event is not None and (event.topic, event.key, event.value) != (said.topic, said.key, said.value):
            yield _where(Kind.EVENT_DUPLICATE, said, "the journal's key and bytes under its id", "others")
        if event is None:
            same = contents.get((said.topic, said.key, said.value))
            kind = Kind.EVENT_DUPLICATE if same else Kind.ABORTED_VISIBLE
            found = f"the event {same.event_id} under another id" if same else "an event that was never decided"
            yield _where(kind, said, "an event of the journal under its id", found)


def _in_order(known: dict[str, Journalled], published: Sequence[Published]) -> Iterator[Violation]:
    """The first time that each event of a key was said, the earlier ones had been."""
    newest: dict[tuple[str, str], int] = {}
    seen: set[str] = set()
    for said in published:
        event = known.get(said.event_id)
        if event is None or said.event_id in seen:
            continue
        seen.add(said.event_id)
        before = newest.get((said.topic, said.key), -1)
        if event.position < before:
            yield _where(Kind.EVENT_ORDER, said, f"before position {before} of the journal", f"{event.position}")
        newest[said.topic, said.key] = max(before, event.position)


def _took_effect(
    journal: Sequence[Journalled], known: dict[str, Journalled], effects: Sequence[Effect]
) -> Iterator[Violation]:
    """Every event took effect once, in the order of its key."""
    counted = Counter(each.event_id for each in effects)
    for each in journal:
        if counted[each.event_id] != 1:
            kind = Kind.EVENT_DUPLICATE if counted[each.event_id] else Kind.EVENT_LOST
            yield _about(kind, each, "one effect", f"{counted[each.event_id]}")
    newest: dict[tuple[str, str], int] = {}
    for effect in effects:
        event = known.get(effect.event_id)
        if event is None:
            said = "the effect of an event of the journal"
            yield Violation(Kind.ABORTED_VISIBLE, "", -1, -1, effect.event_id, said, "of none")
            continue
        before = newest.get((event.topic, event.key), -1)
        if event.position < before:
            yield _about(Kind.EVENT_ORDER, event, f"an effect before that of position {before}", "behind it")
        newest[event.topic, event.key] = max(before, event.position)


def _about(kind: Kind, event: Journalled, expected: str, found: str) -> Violation:
    return Violation(kind, event.topic, -1, event.position, event.event_id, expected, found)


def _where(kind: Kind, said: Published, expected: str, found: str) -> Violation:
    return Violation(kind, said.topic, said.partition, said.offset, said.event_id, expected, found)
