"""Tokens: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from interlock import auth
from interlock.auth import ROLE_MISSING, TOKEN_INVALID, TOKEN_MISSING, Identity, Verifier
from interlock.errors import Refusal
from interlock.testing import ManualClock

CLOCK = ManualClock()
PRIVATE, PUBLIC = auth.generate_keys()


def _verifier() -> Verifier:
    return Verifier(PUBLIC, CLOCK)


def _token(seconds: int = 60, *roles: str) -> str:
    return auth.issue(PRIVATE, "ada", roles or ("operator",), seconds, CLOCK.now())


def _encoded(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def test_a_token_speaks_for_its_subject_and_roles() -> None:
    """Issued and verified: the same subject, the same roles."""
    assert _verifier().verify(_token(60, "approver", "viewer")) == Identity("ada", frozenset({"approver", "viewer"}))


def test_an_expired_token_is_refused_with_its_age() -> None:
    """A minute after its end the detail says how long ago it expired."""
    clock = ManualClock()
    token = auth.issue(PRIVATE, "ada", ["operator"], 60, clock.now())
    clock.advance(120)
    with pytest.raises(Refusal, match="expired 60 seconds ago") as caught:
        Verifier(PUBLIC, clock).verify(token)
    assert caught.value.code is TOKEN_INVALID


def test_a_token_of_another_key_is_refused() -> None:
    """The right shape, signed by a stranger."""
    stranger, _ = auth.generate_keys()
    with pytest.raises(Refusal, match="not signed by this platform"):
        _verifier().verify(auth.issue(stranger, "ada", ["operator"], 60, CLOCK.now()))


@pytest.mark.parametrize("algorithm", ["none", "HS256", "RS256"])
def test_another_algorithm_is_refused_before_any_claim_is_read(algorithm: str) -> None:
    """`none` and a HMAC keyed with the public key are the classic forgeries."""
    _, claims, signature = _token().split(".")
    for sign in ("", signature):
        with pytest.raises(Refusal, match="not signed"):
            _verifier().verify(f"{_encoded({'alg': algorithm, 'typ': 'JWT'})}.{claims}.{sign}")


def test_an_hmac_with_the_public_key_as_its_secret_is_refused() -> None:
    """The algorithm confusion attack, carried out in full."""
    import hashlib
    import hmac

    head, claims = _encoded({"alg": "HS256"}), _token().split(".")[1]
    mac = hmac.new(PUBLIC, f"{head}.{claims}".encode(), hashlib.sha256).digest()
    with pytest.raises(Refusal, match="not signed"):
        _verifier().verify(f"{head}.{claims}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}")


@pytest.mark.parametrize("position", [1, 2])
def test_a_changed_token_is_refused(position: int) -> None:
    """One letter changed in claims or signature."""
    parts = _token().split(".")
    parts[position] = ("A" if parts[position][0] != "A" else "B") + parts[position][1:]
    with pytest.raises(Refusal):
        _verifier().verify(".".join(parts))


@pytest.mark.parametrize("token", ["", "x", "a.b", "a.b.c", "a.b.c.d", "é.é.é", "." * 100, "x" * 10_000, "e30.e30."])
def test_nonsense_is_refused_and_never_raises_anything_else(token: str) -> None:
    """Whatever stands in the header, the answer is a refusal."""
    with pytest.raises(Refusal) as caught:
        _verifier().verify(token)
    assert caught.value.code is TOKEN_INVALID


def test_a_token_from_the_future_is_refused() -> None:
    """A clock that is far ahead issues nothing that we believe."""
    ahead = ManualClock()
    ahead.advance(3600)
    with pytest.raises(Refusal, match="future"):
        _verifier().verify(auth.issue(PRIVATE, "ada", ["operator"], 60, ahead.now()))


def test_roles_nobody_knows_cannot_be_issued() -> None:
    """A spelling mistake is caught when the token is made."""
    with pytest.raises(ValueError, match="operater"):
        auth.issue(PRIVATE, "ada", ["operater"], 60, CLOCK.now())


def test_a_missing_role_is_refused_saying_what_is_needed() -> None:
    """403, with the roles that would do and those that are there."""
    with pytest.raises(Refusal, match="needs the role approver or operator; ada has viewer") as caught:
        auth.authorize(Identity("ada", frozenset({"viewer"})), "approver", "operator")
    assert caught.value.code is ROLE_MISSING
    auth.authorize(Identity("ada", frozenset()))


def test_bearer_and_basic_carry_the_same_token() -> None:
    """Git sends the token as the password of any user."""
    basic = base64.b64encode(b"anybody:tok").decode()
    assert auth.from_authorization("Bearer tok") == auth.from_authorization(f"Basic {basic}") == "tok"
    assert auth.from_authorization("bearer  tok ") == "tok"


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Digest x", "Basic " + base64.b64encode(b"user:").decode()]
)
def test_a_header_without_a_token_is_refused_as_missing(header: str | None) -> None:
    """401 with the words for somebody who sent none."""
    with pytest.raises(Refusal) as caught:
        auth.from_authorization(header)
    assert caught.value.code is TOKEN_MISSING


def test_a_verifier_takes_no_private_key() -> None:
    """The process that checks must not be able to issue."""
    with pytest.raises(ValueError, match="public"):
        Verifier(PRIVATE, CLOCK)
