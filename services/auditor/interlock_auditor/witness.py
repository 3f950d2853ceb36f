"""The witness: a process of its own, with a key and a disk of its own, that signs only what continues its past."""

from __future__ import annotations

import asyncio
from typing import Final

from interlock.errors import InterlockError
from interlock.service import Host, Service
from interlock_auditor import witness_http
from interlock_auditor.checkpoint import COSIGNATURE, ED25519, NoteKey, VerifierKey
from interlock_auditor.settings import WitnessSettings as Settings
from interlock_auditor.witness_memory import Memory

__all__ = ["USES", "Settings", "build"]

USES: Final[tuple[str, ...]] = ()
"""It has neither database nor Kafka: what it knows lies in its folder."""


async def build(host: Host) -> Service:
    """Put the witness together; raises InterlockError where its memory was damaged or a key is missing."""
    settings: Settings = host.settings
    try:
        key = NoteKey(settings.witness_name, COSIGNATURE, settings.witness_key_file.read_bytes())
        log = VerifierKey.of_pem(settings.audit_origin, ED25519, settings.audit_public_key_file.read_bytes())
    except (OSError, ValueError) as error:
        raise InterlockError(f"The witness has no keys: {error}.") from error
    memory = Memory(settings.witness_folder, log, settings.audit_origin, key)
    await asyncio.to_thread(memory.open)
    return Service(name="witness", routers=[witness_http.router(settings, memory, key.public, host.clock)])
