"""What the builder can be told beyond what every service can."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from interlock.settings import PlatformSettings


class Settings(PlatformSettings):
    """The builder's bounds; environment variables begin with INTERLOCK_."""

    builds_at_once: int = Field(1, ge=1, le=64, description="How many builds this process runs side by side.")
    build_poll_seconds: float = Field(0.25, gt=0, description="How often an idle builder looks for a build to do.")
    build_lease_seconds: float = Field(
        20.0, gt=1, description="How long a build may be without a sign of life before another builder takes it over."
    )
    build_attempts_max: int = Field(3, ge=1, description="How often a build is begun before it counts as failed.")
    build_seconds_max: float = Field(300.0, gt=0, description="How long one build's child process may take.")
    build_cpu_seconds_max: int = Field(300, gt=0, description="How much CPU time that child may use, in seconds.")
    build_memory_mib_max: int = Field(4096, ge=512, description="How much memory that child may allocate, in MiB.")
    build_scratch_folder: Path | None = Field(
        None, description="Where a build's scratch folder is made; the system's temporary folder if not given."
    )
    artifact_bytes_max: int = Field(512 * 1024 * 1024, gt=0, description="The largest artifact that is built.")
    data_bytes_max: int = Field(256 * 1024 * 1024, gt=0, description="The largest data set or vectors file read.")
    data_rows_max: int = Field(2_000_000, gt=0, description="The most rows of a data set that a gate may have.")
