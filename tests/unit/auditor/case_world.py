"""A small log in memory: a model's way to live traffic, a batch of a hundred results, the keys of log and witness."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import fastavro
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from interlock.codec import batches, rows
from interlock.codec.contract import request_schema, result_schema
from interlock.codec.framing import frame
from interlock.ids import version_digest
from interlock.kafka.headers import cloudevents
from interlock.merkle import Tree
from interlock.schemas import events
from interlock.signature import Input, Online, Output, Signature
from interlock_auditor import case, verifier
from interlock_auditor.case import Coordinates, Evidence, Reread
from interlock_auditor.checkpoint import COSIGNATURE, ED25519, Checkpoint, NoteKey
from interlock_auditor.entry import Entry, of_record

AT = datetime(2026, 3, 2, 9, 15, 30, tzinfo=UTC)
ORIGIN = "interlock/audit"
FIRST = 1_000
SIGNATURE = Signature(
    (Input("amount", "double"), Input("kind", "string", nullable=True, categories=("a", "b")),
     Input("visits", "double", online=Online(3600.0, 0.0))),
    (Output("score", minimum=0.0, maximum=1.0),),
)  # fmt: skip
MANIFEST = '[model]\nname = "fraud"\nversion = 2\n'
ARTIFACT = b"weights"
DIGEST = version_digest(MANIFEST.encode(), ARTIFACT)
EVIDENCE, PROFILE = "sha256:" + "ab" * 32, "sha256:" + "cd" * 32
WHICH: dict[str, Any] = {"model": "fraud", "version": 2, "digest": DIGEST}
APPLICATION = "fraud--v2"


def later(seconds: float) -> datetime:
    """Return a time after the story's beginning."""
    return AT + timedelta(seconds=seconds)


def address(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def note_key(name: str, kind: int, seed: bytes) -> NoteKey:
    """Return a key that is the same in every run."""
    private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(seed).digest())
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return NoteKey(name, kind, pem)


LOG_KEY = note_key(ORIGIN, ED25519, b"log")
WITNESS_KEY = note_key("interlock/witness", COSIGNATURE, b"witness")


def written(schema: dict[str, Any], schema_id: int, record: dict[str, Any]) -> bytes:
    """Write a record with another writer than the platform's own."""
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(schema), record)
    return frame(schema_id, body.getvalue())


def story() -> list[Any]:
    """Return what happened before the batch, in the order of the log."""
    route = events.Route(
        endpoint="fraud",
        epoch=3,
        promotion=5,
        result_schema=json.dumps(result_schema("fraud", SIGNATURE)),
        result_schema_id=1001,
        arms=(
            events.Arm(
                arm="champion", application=APPLICATION, weight=10_000, signature=SIGNATURE.to_json(), **WHICH
            ),
        ),
        at=later(60),
    )  # fmt: skip
    gate = events.GateEvaluated(
        gate="auc", metric="roc_auc", verdict=events.Verdict.PASS, value=0.9134, bound=0.85, champion_version=1,
        champion_value=0.8911, margin=0.005, rows=20_000, detail="0.9134 is above 0.85.", at=later(20), **WHICH,
    )  # fmt: skip
    place: dict[str, Any] = {"endpoint": "fraud", **WHICH}
    return [
        events.ModelCreated(model="fraud", owner="risk", created_by="alice", at=AT),
        events.VersionRegistered(
            manifest=MANIFEST, manifest_digest=address(MANIFEST.encode()), artifact_digest=address(ARTIFACT),
            artifact_format="onnx", artifact_bytes=len(ARTIFACT), files={"model.onnx": address(ARTIFACT)},
            commit="1f" * 20, author="alice", at=later(1), **WHICH,
        ),
        events.BuildSucceeded(
            attempt=1, evidence_digest=EVIDENCE, profile_digest=PROFILE, vectors=3, gates=("auc",), seconds=9.5,
            at=later(19), **WHICH,
        ),
        gate,
        events.EndpointCreated(endpoint="fraud", model="fraud", partitions=4, created_by="olga", at=later(25)),
        events.VersionApproved(evidence_digest=EVIDENCE, approver="bob", note="looks {good}", at=later(30), **place),
        events.VersionPromoted(promotion=5, actor="olga", previous_version=1, at=later(40), **place),
        events.VersionWarmed(application=APPLICATION, vectors=3, seconds=2.5, at=later(50), **place),
        events.VersionServing(application=APPLICATION, epoch=3, at=later(59), **place),
        route,
        events.RouteChanged(
            endpoint="fraud", epoch=3, champion_version=2, previous_version=1, cause=events.RouteCause.PROMOTION,
            promotion=5, at=later(60),
        ),
    ]  # fmt: skip


@dataclass
class World:
    """The log, its batch, and what the topics hold."""

    before: list[Any] = field(default_factory=story)
    after: list[Any] = field(default_factory=list)
    count: int = 100
    rejected: int = 66
    """The row that was rejected."""
    without_value: int = -1
    """The row whose request has no value."""
    entries: list[Entry] = field(default_factory=list)
    tree: Tree = field(default_factory=Tree)

    def __post_init__(self) -> None:
        schema = request_schema("fraud", SIGNATURE)
        self.schema = json.dumps(schema)
        asked = [{"request_id": f"r-{row}", "requested_at": later(100 + row / 1000)} for row in range(self.count)]
        self.requests = [
            SimpleNamespace(
                offset=FIRST + row,
                timestamp=round(AT.timestamp() * 1000),
                key=b"card-%d" % row,
                value=None
                if row == self.without_value
                else written(schema, 1000, {**asked[row], "amount": row / 7, "kind": "b" if row % 2 else None}),
            )
            for row in range(self.count)
        ]
        self.results = [self._result(row, asked[row]) for row in range(self.count)]
        self.batch_event = self._batch()
        for event in (*self.before, self.batch_event, *self.after):
            self.enter(event)
        self.batch = next(each for each in self.entries if each.action == "BatchAnswered")

    def enter(self, event: Any) -> None:
        """Add an event to the log as the auditor does."""
        seq = len(self.entries)
        record = SimpleNamespace(
            topic=type(event).TOPIC.replace("{endpoint}", "fraud"),
            partition=0,
            offset=seq,
            timestamp=round(AT.timestamp() * 1000),
            key=b"fraud",
            value=rows.encode(event),
            headers=cloudevents(
                type(event).TYPE, event_id=f"event-{seq}", source="/interlock/x", at=AT, subject="fraud", actor="olga"
            ),
        )
        self.entries.append(of_record(seq, record))
        self.tree.append(self.entries[-1].leaf)

    @property
    def checkpoint(self) -> Checkpoint:
        """The newest head, signed by both."""
        head = Checkpoint.signed(ORIGIN, self.tree.size, self.tree.root(), LOG_KEY)
        return head.cosigned(WITNESS_KEY.line(head.text, round(AT.timestamp()) + 200))

    def reread(self, row: int, **changes: Any) -> Reread:
        """Return what reading the topics again brings."""
        found: dict[str, Any] = {
            "results": self.results,
            "row": row,
            "requests": [each.value for each in self.requests],
            "request": self.requests[row],
            "request_schema": self.schema,
            "dead_letter": self.letter(row) if row == self.rejected else None,
            "at": later(300),
        }
        return Reread(**(found | changes))

    def letter(self, row: int) -> bytes:
        """Return the dead letter of a row."""
        name = f"fraud.requests/2/{FIRST + row}"
        return rows.encode(
            events.DeadLetter(
                name=name, endpoint="fraud", reason="MODEL_RAISED", detail="it raised", topic="fraud.requests",
                partition=2, offset=FIRST + row, timestamp=1, key=self.requests[row].key,
                value=self.requests[row].value, headers=(), schema_id=1000, model="fraud", version=2, digest=DIGEST,
                epoch=3, at=later(101),
            )
        )  # fmt: skip

    def bundle(
        self, row: int, chosen: Sequence[Entry] | None = None, *, neighbours: bool = False, **changes: Any
    ) -> dict[str, Any]:
        """Return a row's signed bundle; its entries are the platform's choice unless given."""
        head = self.checkpoint
        if chosen is None:
            known = case.told(self.entries, head.size)
            route = case.route_of(self.batch_event, known)
            chosen = case.choose(self.batch_event, case.result_of(self.results[row], route), known)
        coordinates = Coordinates("fraud.requests", 2, FIRST + row)
        evidence = Evidence(coordinates, self.batch, chosen, self.reread(row, **changes))
        keys = {"log": str(LOG_KEY.public), "witness": str(WITNESS_KEY.public)}
        made: dict[str, Any] = case.bundle(
            evidence, head.note, keys, lambda seq: self.tree.inclusion_path(seq, head.size), neighbours=neighbours
        )
        return signed(made)

    def _result(self, row: int, asked: dict[str, Any]) -> bytes:
        rejected = row == self.rejected
        return written(
            result_schema("fraud", SIGNATURE),
            1001,
            {
                **asked, "offset": FIRST + row, "score": None if rejected else row / 100, "online_visits": 4.0,
                "features_age_milliseconds": 250, "features_missing": 0, "topic": "fraud.requests", "partition": 2,
                "endpoint": "fraud", **WHICH, "epoch": 3, "arm": "champion", "request_schema_id": 1000,
                "scored_at": later(101), "rejection": "MODEL_RAISED" if rejected else None,
                "dead_letter": f"fraud.requests/2/{FIRST + row}" if rejected else None,
            },
        )  # fmt: skip

    def _batch(self) -> events.BatchAnswered:
        return events.BatchAnswered(
            endpoint="fraud", topic="fraud.requests", partition=2, from_offset=FIRST - 3,
            next_offset=FIRST + self.count, first_offset=FIRST, rows=self.count, rejected=1, epoch=3,
            results_digest=batches.digest(self.results),
            requests_digest=batches.digest([each.value for each in self.requests]),
            versions=(events.AnsweredBy(arm="champion", rows=self.count, **WHICH),), at=later(101),
        )  # fmt: skip


def signed(bundle: dict[str, Any]) -> dict[str, Any]:
    """Return a bundle with the statement of whoever holds the log's key."""
    rest = {name: value for name, value in bundle.items() if name != "statement"}
    return rest | {"statement": LOG_KEY.sign(verifier.statement(rest, ORIGIN))}


def examine(bundle: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Check a bundle with the right keys."""
    return verifier.examine(verifier.canonical(bundle), str(LOG_KEY.public), str(WITNESS_KEY.public))
