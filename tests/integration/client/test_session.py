from __future__ import annotations

import asyncio
from typing import Any

import pytest

import interlock
from interlock.client.errors import MissingFeature, Refused, TimedOut, UnknownFeature, WrongType
from interlock.errors import Refusal
from tests.integration.client.journey import people, session_of, small_score

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]


@pytest.fixture(autouse=True)
def _served(small: dict[str, Any], stack: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint answers, and the environment is what `interlock env --export` gives."""
    for name, value in stack.items():
        monkeypatch.setenv(name, value)


async def test_five_lines_ask_and_hear() -> None:
    """Connect without an argument, send, and read the typed result with all of its provenance."""
    async with interlock.connect() as il:
        small = await il.endpoint("small")
        sent = await small.request(key="card-1", amount=150.0, night=True)
        async for result in small.results():
            if result.request_id == sent.request_id:
                break
        details = await il.endpoint_details("small")
    assert result.score == pytest.approx(small_score(150.0, night=True))
    assert (result.topic, result.partition, result.offset) == (sent.topic, sent.partition, sent.offset)
    assert (result.key, result.model, result.version) == ("card-1", "small", details["champion"]["version"])
    assert result.digest == details["champion"]["digest"]
    assert result.epoch == details["champion"]["epoch"]
    assert not result.rejected
    assert result.latency.total_seconds() < 30


async def test_ask_waits_for_its_own_result() -> None:
    """Many questions at once each get their own answer, whatever order results come in."""
    async with interlock.connect() as il:
        small = await il.endpoint("small")
        asked = [(float(amount), amount % 2 == 0) for amount in range(40)]
        answers = await asyncio.gather(
            *(
                small.ask(key=f"card-{index % 7}", timeout_seconds=30, amount=amount, night=night)
                for index, (amount, night) in enumerate(asked)
            )
        )
    for (amount, night), answer in zip(asked, answers, strict=True):
        assert answer.score == pytest.approx(small_score(amount, night=night))


async def test_send_many_and_results_of_a_group_go_on_where_they_stopped() -> None:
    """A batch is produced at once; a group reads it in two sittings and misses nothing."""
    async with interlock.connect() as il:
        small = await il.endpoint("small")
        group = f"reader-{id(small)}"
        reader = small.results(group)
        first = asyncio.create_task(anext(reader))
        assert await small.send_many((f"card-{n}", {"amount": float(n), "night": False}) for n in range(300)) == 300
        begun = await asyncio.wait_for(first, 30)
        await reader.aclose()
        seen = {begun.offset: begun}
        async with asyncio.timeout(60):
            wanted = {(each.partition, each.offset) async for each in _take(small.results(since="opened"), 300)}
            again = {(each.partition, each.offset) async for each in _covering(small.results(group), wanted)}
    assert wanted <= again
    assert seen


async def _take(results: Any, count: int) -> Any:
    async for each in results:
        yield each
        count -= 1
        if not count:
            return


async def _covering(results: Any, wanted: set[tuple[int, int]]) -> Any:
    left = set(wanted)
    async for each in results:
        yield each
        left.discard((each.partition, each.offset))
        if not left:
            return


async def test_bad_requests_are_refused_before_anything_is_sent() -> None:
    """Typed errors name the feature; the topic's end does not move."""
    async with interlock.connect() as il:
        small = await il.endpoint("small")
        with pytest.raises(MissingFeature, match="'night'"):
            await small.request(key="k", amount=1.0)
        with pytest.raises(UnknownFeature, match="did you mean 'amount'"):
            await small.request(key="k", amont=1.0, amount=1.0, night=False)
        with pytest.raises(WrongType, match="'amount' must be double, not str"):
            await small.request(key="k", amount="1", night=False)
        with pytest.raises(TimedOut, match="within"):
            await small.ask(key="k", timeout_seconds=0.001, amount=1.0, night=False)


async def test_commands_are_refused_with_what_is_needed(stack: dict[str, str]) -> None:
    """An author can neither approve nor promote; nobody can promote what is not there; strangers get 401."""
    async with people(stack) as crew:
        with pytest.raises(Refused) as refused:
            await crew.alice.approve("small", 1, "small")
        assert refused.value.status == 403
        assert "approver" in refused.value.detail + refused.value.do
        with pytest.raises(Refused) as unknown:
            await crew.olga.promote("small", 77)
        assert unknown.value.status == 404
    async with interlock.connect(token="nonsense") as stranger:
        with pytest.raises(Refused) as missing:
            await stranger.models()
        assert missing.value.status == 401
        assert missing.value.do


async def test_an_endpoint_without_a_version_says_so(stack: dict[str, str]) -> None:
    """An endpoint that is not there is a 404 with its name."""
    async with session_of(stack, "vera", "viewer") as il:
        with pytest.raises((Refused, Refusal), match="nowhere"):
            await il.endpoint("nowhere")


async def test_the_timeline_tells_the_whole_way_in_order(stack: dict[str, str]) -> None:
    """From registration to the route: each event once, in order, with the words of the contract."""
    async with session_of(stack, "vera", "viewer") as il:
        types = [entry["type"] async for entry in _until_route(il)]
    way = [
        "VersionRegistered",
        "BuildStarted",
        "BuildSucceeded",
        "VersionApproved",
        "VersionPromoted",
        "VersionServing",
        "RouteChanged",
    ]
    places = [types.index(name) for name in way]
    assert places == sorted(places)


async def _until_route(il: interlock.client.Interlock) -> Any:
    async for entry in il.timeline(model="small"):
        yield entry
        if entry["type"] == "RouteChanged":
            return
