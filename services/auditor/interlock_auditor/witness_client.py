"""The witness as others see it: over HTTP, or, where its disk is at hand, in its folder."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, Final, Protocol

import httpx
import msgspec

from interlock import telemetry
from interlock.errors import Refusal, Transient
from interlock_auditor.checkpoint import BadNote, Checkpoint
from interlock_auditor.errors import LOG_FORKED, LOG_SHRUNKEN, NOTE_REFUSED, WITNESS_SIZE_DIFFERS
from interlock_auditor.witness_memory import remembered

_REFUSALS: Final = {code.id: code for code in (LOG_FORKED, LOG_SHRUNKEN, NOTE_REFUSED, WITNESS_SIZE_DIFFERS)}


class Witness(Protocol):
    """What a verifier asks of a witness."""

    async def head(self) -> Checkpoint | None:
        """Return the last head that it signed; raises Transient."""

    async def leaves(self, first: int, behind: int) -> bytes:
        """Return its leaf hashes between two numbers; raises Transient."""


class WitnessFolder:
    """A witness's folder, read without its help."""

    def __init__(self, folder: Path) -> None:
        self._head, self._leaves = remembered(folder)

    async def head(self) -> Checkpoint | None:
        """Return the last head that it signed."""
        return self._head

    async def leaves(self, first: int, behind: int) -> bytes:
        """Return its leaf hashes between two numbers."""
        return self._leaves[first * 32 : behind * 32]


class WitnessClient:
    """A witness over HTTP, with the caller's token."""

    def __init__(self, url: str, token: str, seconds_max: float, leaves_max: int) -> None:
        self._place = httpx.URL(url)
        self._leaves_max = leaves_max
        self._http = httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=seconds_max, trust_env=False
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def head(self) -> Checkpoint | None:
        """Return the last head that it signed, None before the first; raises Transient where it is away."""
        note = msgspec.json.decode(await self._ask("GET", "/v1/checkpoint"))["note"]
        return None if note is None else _parsed(note)

    async def leaves(self, first: int, behind: int) -> bytes:
        """Return its leaf hashes between two numbers; raises Transient where it is away."""
        parts = []
        for at in range(first, behind, self._leaves_max):
            asked = {"first": at, "behind": min(at + self._leaves_max, behind)}
            parts.append(await self._ask("GET", "/v1/leaves", params=asked))
        return b"".join(parts)

    async def cosign(self, shown: Checkpoint, old_size: int, hashes: bytes) -> Checkpoint:
        """Return the checkpoint with the witness's signature line, not yet checked.

        Raises Refusal (WITNESS_SIZE_DIFFERS names in `size` where the witness stands), Transient where it is away.
        """
        document = {"note": shown.note, "old_size": old_size, "leaves": base64.b64encode(hashes).decode()}
        answer = msgspec.json.decode(await self._ask("POST", "/v1/checkpoints", json=document))
        return shown.cosigned(answer["line"])

    async def _ask(self, method: str, path: str, **given: Any) -> bytes:
        try:
            with telemetry.calling(method, self._place.host, self._place.port, path) as traced:
                response = await self._http.request(method, path, headers=traced, **given)
        except httpx.TransportError as error:
            raise Transient(f"The witness is away: {error or type(error).__name__}.") from error
        if response.is_success:
            return response.content
        problem = _problem(response)
        if (code := _REFUSALS.get(str(problem.get("code")))) is not None:
            raise Refusal(code, str(problem.get("detail")), size=problem.get("size"))
        raise Transient(f"The witness answered {response.status_code}: {problem.get('detail') or response.text[:200]}")


def _parsed(note: str) -> Checkpoint:
    try:
        return Checkpoint.parse(note)
    except BadNote as error:
        raise Transient(f"The witness shows no checkpoint: {error}.") from error


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        return msgspec.json.decode(response.content, type=dict[str, Any])
    except msgspec.DecodeError:
        return {}
