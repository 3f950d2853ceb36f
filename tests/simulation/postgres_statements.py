"""What the platform's own SQL means, statement by statement, on the simulated PostgreSQL.

A statement is known by its text. Some of its clauses may be missing, which is how bugs are planted; any other text is
unknown, so whoever changes a statement of the product hears of it here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import asyncpg

from interlock.postgres import journal, lease, outbox
from interlock_deployer import store
from tests.simulation.postgres import Database, Failed, Row, Session, Statement

Clauses = frozenset[str]
Meaning = Callable[..., list[Row]]
NEVER = float("-inf")

HOLDER = "AND holder = $2"
EPOCH = "AND epoch = $3"
IN_TIME = "AND expires_at > clock_timestamp()"
FREE = "WHERE held.expires_at <= clock_timestamp()"
SHARED = "FOR SHARE"
GATE = "AND position < coalesce((SELECT position FROM gate), 9223372036854775807)"
FOR_UPDATE = "FOR UPDATE"
APPLY = "INSERT INTO applied (stream, serial) VALUES ($1, $2)"
NOTHING = "SELECT true"
HEARD_ANYWAY = "INSERT INTO inbox (consumer, event_id) VALUES ($1, $2) ON CONFLICT DO NOTHING"
BEHIND = "SELECT everything FROM outbox WHERE position > $1 LIMIT $2"


@dataclass(frozen=True)
class _Known:
    text: str
    meaning: Meaning
    clauses: tuple[str, ...] = ()


def meaning_of(sql: str) -> Statement:
    """Return what a statement does; raises AssertionError for one that is not known."""
    found = _find(sql)
    assert found is not None, f"the simulation does not know this statement: {sql}"
    known, there = found

    def carry_out(database: Database, session: Session, *arguments: Any) -> list[Row]:
        return known.meaning(database, session, there, *arguments)

    return carry_out


@cache
def _find(sql: str) -> tuple[_Known, Clauses] | None:
    text = _plain(sql)
    for known in _KNOWN:
        whole, rest = _plain(known.text), text
        there = []
        for clause in known.clauses:
            if clause in rest:
                there.append(clause)
                rest = rest.replace(clause, "")
            whole = whole.replace(clause, "")
        if _plain(whole) == _plain(rest):
            return known, frozenset(there)
    return None


def _plain(sql: str) -> str:
    return re.sub(r"\s+", " ", sql).strip()


def _acquire(db: Database, session: Session, there: Clauses, name: str, holder: str, seconds: float) -> list[Row]:
    until = db.loop.time() + seconds
    if db.insert(session, "lease", name, {"name": name, "holder": holder, "epoch": 1, "expires_at": until}):
        return [{"epoch": 1}]
    db.lock(session, "lease", name)
    held = db.row(session, "lease", name)
    assert held is not None
    if FREE in there and held["expires_at"] > db.loop.time():
        return []
    db.update(session, "lease", name, {"holder": holder, "epoch": held["epoch"] + 1, "expires_at": until})
    return [{"epoch": held["epoch"] + 1}]


def _held(db: Database, session: Session, there: Clauses, name: str, holder: str, epoch: int) -> Row | None:
    held = db.row(session, "lease", name)
    if held is None or (HOLDER in there and held["holder"] != holder) or (EPOCH in there and held["epoch"] != epoch):
        return None
    return None if IN_TIME in there and held["expires_at"] <= db.loop.time() else held


def _renew(
    db: Database, session: Session, there: Clauses, name: str, holder: str, epoch: int, seconds: float
) -> list[Row]:
    if _held(db, session, there, name, holder, epoch) is None:
        return []
    db.lock(session, "lease", name)
    if _held(db, session, there, name, holder, epoch) is None:
        return []
    db.update(session, "lease", name, {"expires_at": db.loop.time() + seconds})
    return [{"bool": True}]


def _release(db: Database, session: Session, there: Clauses, name: str, holder: str, epoch: int) -> list[Row]:
    if _held(db, session, there, name, holder, epoch) is not None:
        db.update(session, "lease", name, {"expires_at": NEVER})
    return []


def _fence(db: Database, session: Session, there: Clauses, name: str, holder: str, epoch: int) -> list[Row]:
    if _held(db, session, there, name, holder, epoch) is None:
        return []
    if SHARED in there:
        db.lock(session, "lease", name, shared=True)
        if _held(db, session, there, name, holder, epoch) is None:
            return []
    session.fenced = (name, holder, epoch)
    return [{"bool": True}]


def _advise(db: Database, session: Session, there: Clauses, names: list[str]) -> list[Row]:
    for name in names:
        db.advise(session, name)
    return [{"lock": None} for _ in names]


def _append(db: Database, session: Session, there: Clauses, *given: Any) -> list[Row]:
    names = ("stream", "event_id", "type", "value", "event", "correlation_id", "causation_id", "actor", "traceparent")
    position = db.next_of("journal")
    entry = dict(zip((*names, "appended_at"), given[:10], strict=True))
    db.insert(session, "journal", position, {"position": position, **entry})
    row = {"position": position, "xid": db.xid(session), "topic": given[10], "key": given[11], "published_at": None}
    db.insert(session, "outbox", position, row)
    return []


def _hear(db: Database, session: Session, there: Clauses, consumer: str, event_id: str) -> list[Row]:
    new = db.insert(session, "inbox", (consumer, event_id), {"consumer": consumer, "event_id": event_id})
    return [{"bool": True}] if new else []


def _heard_anyway(db: Database, session: Session, there: Clauses, consumer: str, event_id: str) -> list[Row]:
    _hear(db, session, there, consumer, event_id)
    return [{"bool": True}]


def _answer(db: Database, session: Session, there: Clauses, actor: str, key: str) -> list[Row]:
    row = db.row(session, "commands", (actor, key))
    return [row] if row is not None else []


def _remember(
    db: Database, session: Session, there: Clauses, actor: str, key: str, digest: str, answer: str
) -> list[Row]:
    if not db.insert(session, "commands", (actor, key), {"request_digest": digest, "answer": answer}):
        raise Failed(asyncpg.UniqueViolationError("commands_pkey"))
    return []


def _lead(db: Database, session: Session, there: Clauses) -> list[Row]:
    return [{"lock": db.advise(session, "outbox", whole_session=True, wait=False)}]


def _take(db: Database, session: Session, there: Clauses, rows_max: int) -> list[Row]:
    waiting = [row for row in db.rows(session, "outbox") if row["published_at"] is None]
    held_back = (row["position"] for row in waiting if db.xmin() <= row["xid"] < db.next_xid)
    gate = min(held_back, default=None) if GATE in there else None
    ready = [row for row in waiting if gate is None or row["position"] < gate]
    return [(db.row(session, "journal", row["position"]) or {}) | row for row in ready[:rows_max]]


def _behind(db: Database, session: Session, there: Clauses, last: int, rows_max: int) -> list[Row]:
    found = [row for row in db.rows(session, "outbox") if row["position"] > last][:rows_max]
    return [(db.row(session, "journal", row["position"]) or {}) | row for row in found]


def _mark(db: Database, session: Session, there: Clauses, positions: list[int]) -> list[Row]:
    for position in positions:
        db.update(session, "outbox", position, {"published_at": db.loop.time()})
    return []


def _waiting(db: Database, session: Session, there: Clauses) -> list[Row]:
    rows = sum(row["published_at"] is None for row in db.rows(session, "outbox"))
    return [{"rows": rows, "oldest_seconds": 0.0}]


def _keep_version(db: Database, session: Session, there: Clauses, model: str, version: int, *rest: Any) -> list[Row]:
    names = ("digest", "manifest", "manifest_digest", "artifact_digest", "artifact_format", "files")
    row = {"model": model, "version": version, **dict(zip(names, rest, strict=True))}
    db.insert(session, "versions", (model, version), row)
    return []


def _version(db: Database, session: Session, there: Clauses, model: str, version: int, digest: str) -> list[Row]:
    row = db.row(session, "versions", (model, version))
    if row is None or row["digest"] != digest:
        return []
    return [{name: value for name, value in row.items() if name != "artifact_format"}]


def _begin(db: Database, session: Session, there: Clauses, endpoint: str, model: str, state: str) -> list[Row]:
    db.insert(session, "rollouts", endpoint, {"state": state, "epoch": 0})
    return []


def _lock_rollout(db: Database, session: Session, there: Clauses, endpoint: str) -> list[Row]:
    if FOR_UPDATE in there:
        db.lock(session, "rollouts", endpoint)
    row = db.row(session, "rollouts", endpoint)
    return [{"state": row["state"]}] if row is not None else []


def _save(db: Database, session: Session, there: Clauses, endpoint: str, epoch: int, *rest: Any) -> list[Row]:
    *_, state, before = rest
    db.lock(session, "rollouts", endpoint)
    row = db.row(session, "rollouts", endpoint)
    if row is None or row["epoch"] != before:
        return []
    db.update(session, "rollouts", endpoint, {"state": state, "epoch": epoch})
    return [{"bool": True}]


def _all(db: Database, session: Session, there: Clauses) -> list[Row]:
    return [{"state": row["state"]} for row in db.rows(session, "rollouts")]


def _apply(db: Database, session: Session, there: Clauses, stream: str, serial: int) -> list[Row]:
    number = db.next_of("applied")
    db.insert(session, "applied", number, {"stream": stream, "serial": serial})
    return []


def _nothing(db: Database, session: Session, there: Clauses, *arguments: Any) -> list[Row]:
    return [{"bool": True}]


def _channel(db: Database, session: Session, there: Clauses) -> list[Row]:
    return [{"channel": "outbox"}]


_KNOWN = (
    _Known(lease._ACQUIRE, _acquire, (FREE,)),
    _Known(lease._RENEW, _renew, (HOLDER, EPOCH, IN_TIME)),
    _Known(lease._RELEASE, _release, (HOLDER, EPOCH)),
    _Known(lease._FENCE, _fence, (HOLDER, EPOCH, IN_TIME, SHARED)),
    _Known(journal._LOCK, _advise),
    _Known(journal._APPEND, _append),
    _Known(journal._HEAR, _hear),
    _Known(journal._ANSWER, _answer),
    _Known(journal._REMEMBER, _remember),
    _Known(outbox._LEAD, _lead),
    _Known(outbox._CHANNEL, _channel),
    _Known(outbox._TAKE, _take, (GATE,)),
    _Known(outbox._MARK, _mark),
    _Known(outbox._WAITING, _waiting),
    _Known(store._KEEP_VERSION, _keep_version),
    _Known(store._VERSION, _version),
    _Known(store._BEGIN, _begin),
    _Known(store._LOCK, _lock_rollout, (FOR_UPDATE,)),
    _Known(store._SAVE, _save),
    _Known(store._ALL, _all),
    _Known(APPLY, _apply),
    _Known(NOTHING, _nothing),
    _Known(HEARD_ANYWAY, _heard_anyway),
    _Known(BEHIND, _behind),
)
