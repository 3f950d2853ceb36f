"""What can be asked of the witness: to judge a head of the log, and to tell what it knows."""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from interlock.auth import Identity
from interlock.clock import Clock
from interlock.errors import Refusal
from interlock.http import require
from interlock.merkle import HASH_BYTES
from interlock_auditor.checkpoint import VerifierKey
from interlock_auditor.errors import SIZE_UNKNOWN, WITNESS_SIZE_DIFFERS
from interlock_auditor.settings import WitnessSettings
from interlock_auditor.witness_memory import Memory

Anybody = Annotated[Identity, Depends(require())]
Service = Annotated[Identity, Depends(require("service"))]


class Shown(BaseModel):
    """A head that the log shows, and what is new in it."""

    model_config = ConfigDict(extra="forbid")

    note: str = Field(max_length=16_384, description="The checkpoint, signed by the log.")
    old_size: int = Field(ge=0, le=2**62, description="How many entries the witness knows, as the log believes.")
    leaves: str = Field(description="The leaf hashes behind those, 32 bytes each, one behind the other, in base64.")


class Cosigned(BaseModel):
    """The witness's consent."""

    size: int = Field(description="How many entries the witness now knows.")
    line: str = Field(description="Its signature line, to be put below the note.")


class Head(BaseModel):
    """What the witness signed last."""

    size: int = Field(description="How many entries it knows.")
    note: str | None = Field(description="The checkpoint with both signatures; null before the first.")
    key: str = Field(description="The witness's verifier key.")


def router(settings: WitnessSettings, memory: Memory, key: VerifierKey, clock: Clock) -> APIRouter:
    """Return the routes under /v1."""
    routes = APIRouter(prefix="/v1", tags=["witness"])
    turn = asyncio.Lock()

    @routes.post("/checkpoints", operation_id="cosign_checkpoint")
    async def cosign(shown: Shown, _: Service) -> Cosigned:
        """Co-sign a head that continues the last one; 409 for a shrunken log, a fork, or another `old_size`."""
        try:
            hashes = base64.b64decode(shown.leaves, validate=True)
        except (binascii.Error, ValueError) as error:
            raise Refusal(WITNESS_SIZE_DIFFERS, "The leaf hashes are no base64.") from error
        if len(hashes) > settings.witness_leaves_max * HASH_BYTES:
            raise Refusal(
                WITNESS_SIZE_DIFFERS, f"At most {settings.witness_leaves_max} leaf hashes go into one request."
            )
        async with turn:
            now = int(clock.now().timestamp())
            line = await asyncio.to_thread(memory.take, shown.note, shown.old_size, hashes, now)
            return Cosigned(size=memory.tree.size, line=line)

    @routes.get("/checkpoint", operation_id="get_witnessed_checkpoint")
    async def head(_: Anybody) -> Head:
        """Give the last head that was signed."""
        found = memory.head
        return Head(size=memory.tree.size if found else 0, note=found.note if found else None, key=str(key))

    @routes.get("/leaves", operation_id="get_leaf_hashes", response_class=Response)
    async def leaves(
        _: Anybody,
        first: Annotated[int, Query(ge=0, description="The number of the first entry.")],
        behind: Annotated[int, Query(ge=0, description="The number behind the last one.")],
    ) -> Response:
        """Give leaf hashes, 32 bytes each, one behind the other."""
        size = memory.head.size if memory.head else 0
        if not first <= behind <= size or behind - first > settings.witness_leaves_max:
            raise Refusal(SIZE_UNKNOWN, f"The witness knows {size} entries; it was asked for {first} to {behind}.")
        return Response(memory.tree.leaves(first, behind), media_type="application/octet-stream")

    return routes
