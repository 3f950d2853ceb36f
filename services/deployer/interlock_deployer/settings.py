"""What the deployer can be told beyond what every service can."""

from __future__ import annotations

from pydantic import Field

from interlock.settings import PlatformSettings


class Settings(PlatformSettings):
    """The deployer's bounds; environment variables begin with INTERLOCK_."""

    warm_versions_max: int = Field(
        4,
        ge=3,
        description="How many versions an endpoint keeps warm: champion, previous, ordered, and approved ones.",
    )
    shadow_approved: bool = Field(
        default=False,
        description="Whether an approved version that is warm is asked in the shadow of the champion until it is "
        "first promoted: its answers go to `{endpoint}.shadow`, and take their share of the machine.",
    )
    route_drain_seconds: float = Field(
        10.0,
        ge=0,
        description="How long an application stays up after no route names it, so that routers finish what they sent.",
    )
    deploy_seconds_max: float = Field(120.0, gt=0, description="How long an application may take until it is running.")
    deploy_retry_seconds: float = Field(
        2.0, gt=0, description="The pause before a failed deployment is tried again; it doubles."
    )
    deploy_retry_seconds_max: float = Field(
        60.0, gt=0, description="The longest pause before a failed deployment is tried again."
    )
    warm_seconds_max: float = Field(
        30.0, gt=0, description="How long scoring all self-test vectors of a version may take."
    )
    warm_rows_max: int = Field(512, gt=0, description="How many self-test vectors go into one call.")
    reconcile_seconds: float = Field(
        2.0, gt=0, description="The pause between two comparisons of what runs with what is wanted."
    )
    reconcile_busy_seconds: float = Field(
        0.1, gt=0, description="The same pause while an application is starting or being deleted."
    )
    actions_at_once_max: int = Field(
        8, gt=0, description="How many applications are started, warmed or deleted at the same time."
    )
    schema_registry_seconds_max: float = Field(
        5.0, gt=0, description="How long the schema registry may take to answer."
    )
    lease_seconds: float = Field(
        10.0, gt=0, description="How long the leading deployer may be silent until another takes over."
    )
