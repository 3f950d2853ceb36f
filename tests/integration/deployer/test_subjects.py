"""The deployer's schemas against the platform's own schema registry."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import msgspec
import pytest

from interlock.codec import contract
from interlock.errors import Refusal, Transient
from interlock.signature import Input, Output, Signature
from interlock_deployer.subjects import Subjects

SECONDS_MAX = 5.0


def _requests(endpoint: str, *inputs: Input) -> str:
    return msgspec.json.encode(contract.request_schema(endpoint, Signature(inputs, (Output("score"),)))).decode()


@pytest.fixture
async def subjects(stack: dict[str, str]) -> AsyncIterator[Subjects]:
    """The client, with the address and token that the stack gives to everybody."""
    client = Subjects(stack["INTERLOCK_SCHEMA_REGISTRY_URL"], SECONDS_MAX)
    yield client
    await client.close()


@pytest.mark.stack
async def test_the_same_schema_has_the_same_id_whoever_asks(stack: dict[str, str], subjects: Subjects) -> None:
    """Registered once, found again by another client that remembers nothing."""
    endpoint = f"e{uuid4().hex[:8]}"
    schema = _requests(endpoint, Input("amount", "double"))
    first = await subjects.id_of(f"{endpoint}.requests-value", schema)
    other = Subjects(stack["INTERLOCK_SCHEMA_REGISTRY_URL"], SECONDS_MAX)
    assert await other.id_of(f"{endpoint}.requests-value", schema) == first
    await other.close()
    assert first >= 1000, "the platform's own ids are below"


@pytest.mark.stack
async def test_a_signature_that_breaks_the_callers_is_refused(subjects: Subjects) -> None:
    """A feature of another type under the same name cannot be read with what callers wrote before."""
    subject = f"e{uuid4().hex[:8]}.requests-value"
    endpoint = subject.removesuffix(".requests-value")
    await subjects.id_of(subject, _requests(endpoint, Input("amount", "double")))
    with pytest.raises(Refusal) as refused:
        await subjects.id_of(subject, _requests(endpoint, Input("amount", "string", categories=("a", "b"))))
    assert refused.value.code.id == "SCHEMA_REFUSED"
    assert subject in refused.value.detail


async def test_a_registry_that_is_away_is_waited_for() -> None:
    """Nobody listens: it may work later."""
    client = Subjects("http://u:t@127.0.0.1:9/schema-registry", SECONDS_MAX)
    with pytest.raises(Transient, match="schema registry is away"):
        await client.id_of("fraud.requests-value", "{}")
    await client.close()
