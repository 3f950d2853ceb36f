"""Identities: time-ordered event ids, content digests, and the names derived from them."""

from __future__ import annotations

import hashlib
import os
import time

_VERSION_DOMAIN = b"interlock-version-v1\x00"


def uuid7() -> str:
    """Return a UUID version 7 (RFC 9562): 48 bits of milliseconds, then randomness, so that ids sort by time."""
    milliseconds = time.time_ns() // 1_000_000
    value = bytearray(milliseconds.to_bytes(6, "big") + os.urandom(10))
    value[6] = (value[6] & 0x0F) | 0x70
    value[8] = (value[8] & 0x3F) | 0x80
    text = value.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def digest_of(content: bytes) -> str:
    """Return the content's SHA-256 as `sha256:<64 hex digits>`."""
    return digest_text(hashlib.sha256(content).digest())


def digest_text(digest: bytes) -> str:
    """Return the 32 bytes of a SHA-256 as the platform writes them, `sha256:<64 hex digits>`."""
    return "sha256:" + digest.hex()


def short_digest(digest: str) -> str:
    """Return the first twelve digits of a digest, as people compare them."""
    return digest.removeprefix("sha256:")[:12]


def version_digest(manifest: bytes, artifact: bytes) -> str:
    """Return a version's identity: SHA-256 over the digests of its manifest and of its artifact.

    Hashing the two digests rather than the concatenated bytes means that no byte can move from the one into
    the other without a change of identity.
    """
    parts = hashlib.sha256(manifest).digest() + hashlib.sha256(artifact).digest()
    return digest_of(_VERSION_DOMAIN + parts)


def request_name(topic: str, partition: int, offset: int) -> str:
    """Return the name of a request by its coordinates, `topic/partition/offset`; a dead letter bears the same name."""
    return f"{topic}/{partition}/{offset}"


def application_name(model: str, version: int, digest: str) -> str:
    """Return the Ray Serve application that runs a version, such as `fraud--v2--1f0c9a5be311`."""
    return f"{model}--v{version}--{short_digest(digest)}"
