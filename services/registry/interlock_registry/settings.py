"""What the registry can be told, beyond what every process of the platform can."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from interlock.settings import PlatformSettings


class Settings(PlatformSettings):
    """The registry's folders, waits and bounds."""

    git_folder: Path = Field(Path("git"), description="The folder of the bare repositories, one per model.")
    push_wait_seconds: float = Field(
        120.0, ge=0, description="How long a push stays on the pusher's terminal to wait for the verdict."
    )
    push_quiet_seconds: float = Field(
        10.0, gt=0, description="After how long without a word from the builder the pusher is told that it is away."
    )
    push_keepalive_seconds: float = Field(
        5.0, gt=0, description="How often an idle push connection is kept alive with an empty packet."
    )
    push_bytes_max: int = Field(512 * 1024 * 1024, gt=0, description="The largest push that is received, as sent.")
    push_inflated_bytes_max: int = Field(
        1024 * 1024 * 1024, gt=0, description="The most that all objects of one push may be, uncompressed."
    )
    push_objects_max: int = Field(50_000, gt=0, description="The most git objects that one push may bring.")
    push_file_bytes_max: int = Field(256 * 1024 * 1024, gt=0, description="The largest file that a push may bring.")
    push_at_once_max: int = Field(4, gt=0, description="How many pushes are unpacked at the same time.")
    staging_keep_seconds: float = Field(
        3600.0, gt=0, description="After how long the registry removes, as it starts, what a killed push left behind."
    )
    tree_entries_max: int = Field(10_000, gt=0, description="The most files and folders that a pushed tree may hold.")
    tree_depth_max: int = Field(32, gt=0, description="How deep a pushed tree's folders may be nested.")
    fetch_body_bytes_max: int = Field(4 * 1024 * 1024, gt=0, description="The largest request of a git fetch or clone.")
    timeline_wait_seconds_max: float = Field(
        30.0, gt=0, description="How long a reader of the timeline may wait for news."
    )
    timeline_entries_max: int = Field(1000, gt=0, description="The most entries of the timeline in one answer.")
    timeline_poll_seconds: float = Field(
        1.0, gt=0, description="How often the timeline is read again where no notification came."
    )
    console_seconds: float = Field(1.0, gt=0, description="How often a console page gets new figures.")
    console_viewers_max: int = Field(20, gt=0, description="How many console pages may be watched at once.")
    timeline_waiters_max: int = Field(200, gt=0, description="How many readers may wait for the timeline at once.")
    endpoint_partitions_max: int = Field(256, gt=0, description="The most partitions that an endpoint may be given.")
    schema_bytes_max: int = Field(
        256 * 1024, gt=0, description="The largest Avro schema that can be registered, as JSON."
    )
    schema_depth_max: int = Field(64, gt=0, description="How deep a registered schema may be nested.")
