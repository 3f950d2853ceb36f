"""Makes versions by the dozen, registers them as the registry would, and reads what the builder said."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from interlock.blobs import Blobs
from interlock.cause import Cause
from interlock.ids import digest_of, version_digest
from interlock.postgres import journal
from interlock.schemas.events import RollbackOrdered, VersionPromoted, VersionRegistered
from interlock_builder import handlers
from tests.integration.serving import graphs

SECONDS_MAX = 60.0
ROWS = 400


def holdout(columns: tuple[str, ...] = ("a", "b"), rows: int = ROWS) -> tuple[bytes, np.ndarray, np.ndarray]:
    """Return CSV, inputs and labels: the label follows the first column, with noise."""
    random = np.random.default_rng(7)
    matrix = random.normal(size=(rows, len(columns))).round(6)
    labels = (matrix[:, 0] + random.normal(size=rows) > 0).astype(int)
    lines = [",".join([*columns, "label"])]
    lines += [",".join([*map(str, row), str(label)]) for row, label in zip(matrix.tolist(), labels, strict=True)]
    return ("\n".join(lines) + "\n").encode(), matrix, labels


def gate(name: str = "ranks", metric: str = "auc", bounds: str = "minimum = 0.6", data: str = "holdout.csv") -> str:
    """Return one gate of a manifest."""
    return f'[[gates]]\nname = "{name}"\nmetric = "{metric}"\ndata = "{data}"\nlabel = "label"\n{bounds}\n\n'


@dataclass
class Version:
    """One version as files; a sound linear model of two inputs unless told otherwise."""

    version: int = 1
    name: str = "fraud"
    inputs: list[str] = field(default_factory=lambda: ["a", "b"])
    weights: list[float] = field(default_factory=lambda: [1.0, 0.0])
    gates: str = ""
    artifact: bytes | None = None
    path: str = "model.onnx"
    format: str = "onnx"
    vectors: dict[str, Any] | None = None
    minimum: str = ""
    maximum: str = ""
    files: dict[str, bytes] = field(default_factory=dict)

    def tree(self) -> tuple[str, dict[str, bytes]]:
        """Return the manifest and every file."""
        manifest = graphs.manifest_text(
            self.name,
            self.version,
            self.inputs,
            artifact=self.path,
            format=self.format,
            gates=self.gates,
            minimum=self.minimum,
            maximum=self.maximum,
        )
        artifact = graphs.linear(self.weights) if self.artifact is None else self.artifact
        vectors = self.vectors
        if vectors is None:
            rows = np.random.default_rng(3).normal(size=(8, len(self.inputs))).round(4)
            vectors = {"inputs": rows.tolist(), "outputs": (rows @ self.weights).reshape(-1, 1).tolist()}
        return manifest, {self.path: artifact, "vectors.json": json.dumps(vectors).encode(), **self.files}


class Forge:
    """The builder's surroundings: its events come in through its handlers, its journal is read back."""

    def __init__(self, database: Any, blobs: Blobs) -> None:
        self.database = database
        self.blobs = blobs

    def event(self, version: Version) -> VersionRegistered:
        """Put the files into the store and return the event that registers them."""
        manifest, files = version.tree()
        digests = {path: self.blobs.put(content) for path, content in files.items()}
        return VersionRegistered(
            model=version.name,
            version=version.version,
            digest=version_digest(manifest.encode(), files[version.path]),
            manifest=manifest,
            manifest_digest=self.blobs.put(manifest.encode()),
            artifact_digest=digest_of(files[version.path]),
            artifact_format=version.format,
            artifact_bytes=len(files[version.path]),
            files=digests,
            commit="0" * 40,
            author="ada",
            at=datetime.now(UTC),
        )

    async def register(self, version: Version) -> VersionRegistered:
        """Have the builder hear that the version was registered."""
        event = self.event(version)
        async with journal.unit(self.database, Cause.start("ada")) as unit:
            await handlers.on_version_registered(event, unit)
        return event

    async def promote(self, event: VersionRegistered, promotion: int) -> None:
        """Have the builder hear that the version was promoted."""
        promoted = VersionPromoted(
            endpoint=event.model,
            model=event.model,
            version=event.version,
            digest=event.digest,
            promotion=promotion,
            actor="op",
            at=datetime.now(UTC),
        )
        async with journal.unit(self.database, Cause.start("op")) as unit:
            await handlers.on_version_promoted(promoted, unit)

    async def roll_back(self, from_version: int, to: VersionRegistered, promotion: int) -> None:
        """Have the builder hear of a rollback."""
        ordered = RollbackOrdered(
            endpoint=to.model,
            model=to.model,
            promotion=promotion,
            from_version=from_version,
            to_version=to.version,
            to_digest=to.digest,
            actor="op",
            reason="worse",
            at=datetime.now(UTC),
        )
        async with journal.unit(self.database, Cause.start("op")) as unit:
            await handlers.on_rollback_ordered(ordered, unit)

    async def said(self, name: str = "fraud") -> list[Any]:
        """Return every event of the builder on a model, in order."""
        return [recorded.event for recorded in await journal.history(self.database, f"build/{name}")]

    async def state(self, version: int = 1, name: str = "fraud") -> Any:
        """Return the build's row."""
        return await self.database.fetchrow("SELECT * FROM builds WHERE model = $1 AND version = $2", name, version)

    async def ended(self, version: int = 1, name: str = "fraud") -> Any:
        """Wait for the end of a build and return its row."""
        until = time.monotonic() + SECONDS_MAX
        while time.monotonic() < until:
            row = await self.state(version, name)
            if row["state"] in ("succeeded", "failed"):
                return row
            await asyncio.sleep(0.05)
        raise AssertionError(f"the build did not end: {row}")

    def blob(self, digest: str) -> dict[str, Any]:
        """Return a JSON blob."""
        value: dict[str, Any] = json.loads(self.blobs.get(digest))
        return value
