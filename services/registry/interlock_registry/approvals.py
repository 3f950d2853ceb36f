"""Approvals: a person's consent to one digest, its evidence and one endpoint; never the author's own. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from interlock.errors import Refusal
from interlock.schemas.events import VersionApproved
from interlock_registry import errors
from interlock_registry.model import Approval, Version, require_proven
from interlock_registry.promotions import Endpoint


def approve(version: Version, endpoint: Endpoint, *, approver: str, note: str, at: datetime) -> list[VersionApproved]:
    """Decide on an approval; none follows where the same person has already given the same one.

    The author is asked for first: who wrote a version learns that before anything about its gates.
    Raises Refusal(OTHER_MODEL | OWN_APPROVAL | NOT_PROVEN).
    """
    what = f"{version.model} version {version.version}"
    if endpoint.model != version.model:
        raise Refusal(
            errors.OTHER_MODEL, f"Endpoint {endpoint.name} belongs to {endpoint.model}, not to {version.model}."
        )
    if approver == version.author:
        raise Refusal(errors.OWN_APPROVAL, f"{approver} is the author of {what}.", author=version.author)
    evidence_digest = require_proven(version)
    for given in version.approvals:
        if (given.endpoint, given.approver, given.evidence_digest) == (endpoint.name, approver, evidence_digest):
            return []
    return [
        VersionApproved(
            model=version.model,
            version=version.version,
            digest=version.digest,
            endpoint=endpoint.name,
            evidence_digest=evidence_digest,
            approver=approver,
            note=note,
            at=at,
        )
    ]


def version_approved(version: Version, event: VersionApproved) -> Version:
    """Fold an approval into the version it was given to."""
    if event.digest != version.digest:
        return version
    approval = Approval(event.endpoint, event.approver, event.evidence_digest, event.note, event.at)
    return replace(version, approvals=(*version.approvals, approval))
