"""One look at what is being watched: rate, lag, latency, shares, drift and the audit log, as one plain object.

The terminal (`interlock top`) and the console show the same look, each in its way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

from interlock.client.session import Interlock
from interlock.errors import InterlockError

DRIFT_STATES = ("drift", "clear", "too_few_rows", "no_reference")
"""What can be said of a version, the most alarming first."""


async def look(session: Interlock, endpoint: str | None = None) -> dict[str, Any]:
    """Return all endpoints, or one, as they are now, and the head of the audit log.

    A watcher that is away costs only its own part of the look: `drift` or `audit` then holds `away` and why.
    Raises what the registry says: it is the one without which there is nothing to show.
    """
    described = [await session.endpoint_details(endpoint)] if endpoint else await session.endpoints()
    views = await asyncio.gather(*(_endpoint(session, each) for each in described))
    return {"endpoints": list(views), "audit": audit_state(await _or_away(session, "audit_head"))}


async def _endpoint(session: Interlock, described: Mapping[str, Any]) -> dict[str, Any]:
    name = described["name"]
    live, drift = await asyncio.gather(session.live(name), _or_away(session, "drift", name))
    champion = described.get("champion") or {}
    return {
        **summary(name, live),
        "model": described["model"],
        "champion": champion.get("version"),
        "epoch": described.get("route_epoch"),
        "asked": (described.get("asked") or {}).get("version"),
        "failure": described.get("failure"),
        "drift": drift if "away" in drift else drift_state(drift, champion.get("version")),
    }


async def _or_away(session: Interlock, method: str, *arguments: str) -> dict[str, Any]:
    """Return what a watcher says, or that it is away and why."""
    try:
        ask: Awaitable[dict[str, Any]] = getattr(session, method)(*arguments)
        return await ask
    except InterlockError as error:
        return {"away": error.detail}


def audit_state(head: Mapping[str, Any]) -> dict[str, Any]:
    """Return the head of the audit log in few words; `detail` is None while all is well."""
    if "away" in head:
        return {"away": head["away"]}
    lost = head.get("witness_lost")
    detail = head.get("trouble") or (lost and f"the witness is lost: {lost}")
    return {**{name: head.get(name) for name in ("size", "root", "witnessed_size", "state")}, "detail": detail or None}


def drift_state(answer: Mapping[str, Any], champion: int | None) -> dict[str, Any]:
    """Return the most alarming state among the versions of an endpoint, and the features to blame.

    Of versions that all are clear, the champion's counts.
    """
    versions = sorted(
        answer.get("versions", ()),
        key=lambda each: (DRIFT_STATES.index(each["state"]) != 0, each["version"] != champion),
    )
    if not versions:
        return {"state": "no_window", "version": None, "features": [], "since": None}
    first = versions[0]
    blamed = first.get("blamed", []) if first["state"] == "drift" else []
    return {"state": first["state"], "version": first["version"], "features": blamed, "since": first.get("since")}


def summary(endpoint: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return one endpoint's figures over all router instances: rates and lags add up, the worst latency counts."""
    instances = answer.get("instances", answer.get("live", []))
    instances = instances if isinstance(instances, list) else list(instances.values())
    rate = sum(each.get("events_per_second", 0.0) for each in instances)
    shares: dict[str, float] = {}
    for each in instances:
        weight = each.get("events_per_second", 0.0) / rate if rate else 1 / len(instances)
        for version, share in (each.get("versions") or {}).items():
            shares[version] = shares.get(version, 0.0) + share * weight
    latencies = [each.get("latency_ms") or {} for each in instances]
    return {
        "endpoint": endpoint,
        "instances": len(instances),
        "events_per_second": rate,
        "lag": sum(each.get("lag", 0) for each in instances),
        "latency_ms": {
            name: max((each.get(name) or 0.0 for each in latencies), default=0.0) for name in ("p50", "p99")
        },
        "versions": shares,
        "dead_letters_per_second": sum(each.get("dead_letters_per_second", 0.0) for each in instances),
    }
