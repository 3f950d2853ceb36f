"""Who is asking, and what they may do: signed bearer tokens with roles."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Any

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from interlock.clock import Clock
from interlock.errors import Code, Refusal
from interlock.ids import uuid7

ROLES: tuple[str, ...] = ("author", "approver", "operator", "viewer", "service")
ISSUER = "interlock"
AUDIENCE = "interlock"
ALGORITHM = "Ed25519"  # RFC 9864; "EdDSA" does not say which curve
TOKEN_BYTES_MAX = 8192
CLOCK_SKEW_SECONDS = 5

TOKEN_MISSING = Code(
    "TOKEN_MISSING", 401, "No token was given", "Send `Authorization: Bearer TOKEN`; `interlock token issue` makes one."
)
TOKEN_INVALID = Code("TOKEN_INVALID", 401, "The token is not valid", "Ask for a new one with `interlock token issue`.")
ROLE_MISSING = Code("ROLE_MISSING", 403, "The token lacks a role", "Use a token with one of the roles named.")


class Identity(msgspec.Struct, frozen=True):
    """Who a checked token speaks for."""

    subject: str
    roles: frozenset[str]


def generate_keys() -> tuple[bytes, bytes]:
    """Return a new Ed25519 pair as (private PEM in PKCS#8, public PEM in SubjectPublicKeyInfo)."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private, public


def issue(
    private_pem: bytes, subject: str, roles: tuple[str, ...] | list[str], lifetime_seconds: int, now: datetime
) -> str:
    """Return a signed token (JWT, EdDSA) for `subject`; raises ValueError for an unknown role or an empty subject."""
    unknown = sorted(set(roles) - set(ROLES))
    if unknown or not subject:
        raise ValueError(
            f"unknown roles {unknown}; the roles are {', '.join(ROLES)}" if unknown else "a token needs a subject"
        )
    start = int(now.timestamp())
    claims: dict[str, Any] = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "roles": sorted(set(roles)),
        "iat": start, "exp": start + lifetime_seconds, "jti": uuid7(),
    }  # fmt: skip
    return jwt.encode({"alg": ALGORITHM, "typ": "JWT"}, claims, OKPKey.import_key(private_pem), algorithms=[ALGORITHM])


class Verifier:
    """Checks tokens against one public key; holds no secret."""

    def __init__(self, public_pem: bytes, clock: Clock) -> None:
        self._key = OKPKey.import_key(public_pem)
        if self._key.is_private:
            raise ValueError("the verifier was given a private key; it needs the public one")
        self._clock = clock

    def identify(self, header: str | None) -> Identity:
        """Return who an `Authorization` header speaks for; raises Refusal(TOKEN_MISSING or TOKEN_INVALID)."""
        return self.verify(from_authorization(header))

    def verify(self, token: str) -> Identity:
        """Return who the token speaks for; raises Refusal(TOKEN_INVALID) saying what is wrong with it."""
        if len(token) > TOKEN_BYTES_MAX:
            raise Refusal(TOKEN_INVALID, f"The token is longer than {TOKEN_BYTES_MAX} bytes.")
        try:
            # The list is closed: a token that says "none", or names an HMAC, is refused before any key is looked at.
            claims = jwt.decode(token, self._key, algorithms=[ALGORITHM]).claims
        except (JoseError, ValueError) as error:
            raise Refusal(TOKEN_INVALID, "The token is not signed by this platform's key.") from error
        return self._identity(claims)

    def _identity(self, claims: dict[str, Any]) -> Identity:
        """Judge the claims of a token whose signature holds."""
        now = self._clock.now().timestamp()
        expires, issued = _number(claims.get("exp")), _number(claims.get("iat"))
        subject, roles = claims.get("sub"), claims.get("roles")
        if claims.get("iss") != ISSUER or claims.get("aud") != AUDIENCE:
            raise Refusal(TOKEN_INVALID, "The token was not issued for this platform.")
        if expires is None or issued is None:
            raise Refusal(TOKEN_INVALID, "The token does not say when it was issued and when it expires.")
        if now >= expires + CLOCK_SKEW_SECONDS:
            raise Refusal(TOKEN_INVALID, f"The token expired {int(now - expires)} seconds ago.")
        if issued > now + CLOCK_SKEW_SECONDS:
            raise Refusal(TOKEN_INVALID, "The token was issued in the future; compare the clocks.")
        if not isinstance(subject, str) or not subject or not isinstance(roles, list):
            raise Refusal(TOKEN_INVALID, "The token names no subject or no roles.")
        return Identity(subject, frozenset(role for role in roles if role in ROLES))


def authorize(identity: Identity, *roles: str) -> None:
    """Return if the identity has one of `roles` (none asked: any identity will do); raises Refusal(ROLE_MISSING)."""
    if roles and not identity.roles.intersection(roles):
        has = ", ".join(sorted(identity.roles)) or "no role"
        raise Refusal(
            ROLE_MISSING, f"This needs the role {' or '.join(roles)}; {identity.subject} has {has}.", needed=list(roles)
        )


def from_authorization(header: str | None) -> str:
    """Return the token in an `Authorization` header, `Bearer T` or (as git sends it) `Basic base64(user:T)`."""
    if not header:
        raise Refusal(TOKEN_MISSING, "The request carries no Authorization header.")
    scheme, _, rest = header.partition(" ")
    rest = rest.strip()
    if scheme.lower() == "bearer" and rest:
        return rest
    if scheme.lower() == "basic":
        try:
            _, _, token = base64.b64decode(rest, validate=True).decode("utf-8").partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise Refusal(TOKEN_INVALID, "The Basic credentials are not base64 of `user:token`.") from error
        if token:
            return token
    raise Refusal(
        TOKEN_MISSING,
        "The Authorization header holds neither `Bearer TOKEN` nor Basic credentials with the token as password.",
    )


def _number(value: object) -> float | None:
    """Return a claim as a number of seconds, or None if it is none (Python counts a bool as one; we do not)."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
