"""What the monitor can be told beyond what every service can."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from interlock.codec.observations import PANE_SECONDS
from interlock.settings import PlatformSettings


class Settings(PlatformSettings):
    """The monitor's bounds; environment variables begin with INTERLOCK_."""

    window_seconds: float = Field(60.0, ge=1, description="How much event time one window covers; whole seconds.")
    window_lateness_seconds: float = Field(
        2.0, ge=0, description="How long a window waits, in event time, for requests behind the newest ones seen."
    )
    partition_idle_seconds: float = Field(
        5.0, gt=0, description="A partition in which nothing waits and nothing came for so long holds no window open."
    )
    window_revision_seconds: float = Field(
        10.0, gt=0, description="The least time between two revisions of a window that late requests change."
    )
    windows_closed_max: int = Field(50, ge=1, description="The most windows that are closed in one transaction.")
    windows_keep_days: float = Field(90.0, gt=0, description="How long the figures of a window are kept.")
    sketches_keep_hours: float = Field(
        72.0,
        gt=0,
        description="How long a window's sketches are kept; requests that come later only raise its counts.",
    )
    stream_group: str = Field(
        "interlock.monitor.stream",
        description="The consumer group of observations and labels; also the Faust app's id.",
    )
    stream_flush_seconds: float = Field(
        1.0, gt=0, description="How often what was taken in is brought to Postgres, and windows are closed."
    )
    stream_rows_max: int = Field(200_000, gt=0, description="At most so many requests are taken in before that.")
    stream_windows_max: int = Field(200, gt=0, description="And at most so many windows are touched before that.")
    stream_records_max: int = Field(
        8, gt=0, description="How many observations are fetched at once, and how many wait; each may have 4 MiB."
    )
    stream_fetch_bytes_max: int = Field(
        1024 * 1024,
        gt=0,
        description="How much is fetched of one partition at once; one larger record is fetched alone.",
    )
    stream_stall_seconds: float = Field(
        15.0, gt=0, description="Observations that wait for longer, without anything moving, get a new Faust app."
    )
    stream_stuck_seconds_max: float = Field(
        60.0, gt=0, description="And if new ones do not help for so long, the process ends."
    )
    profile_wait_seconds: float = Field(
        3.0, ge=0, description="How long the first observation of a version waits for the version's reference profile."
    )
    references_max: int = Field(200, gt=0, description="How many reference profiles are kept in memory.")
    answer_windows_max: int = Field(5000, gt=0, description="The most windows that one HTTP answer holds.")
    quality_threshold: float = Field(0.5, description="The score from which a request counts as called positive.")
    quality_false_alarm_cost: float = Field(
        1.0, ge=0, description="What a false alarm costs, where a missed positive costs the label's weight."
    )
    quality_every_seconds: float = Field(
        10.0, gt=0, description="The least time between two measurements of one window's quality."
    )
    quality_windows_max: int = Field(20, ge=1, description="The most windows whose quality is measured at once.")
    scores_keep_days: float = Field(30.0, gt=0, description="How long scores wait for their labels.")
    drift_false_alarms_per_window: float = Field(
        1e-4, gt=0, lt=1, description="How often a window without drift may raise an alarm, over all features."
    )
    drift_rows_min: int = Field(200, ge=2, description="A window with fewer rows is no evidence.")

    @property
    def window_milliseconds(self) -> int:
        """The length of a window."""
        return round(self.window_seconds * 1000)

    @model_validator(mode="after")
    def _whole_panes(self) -> Self:
        """Refuse a window that would cut a pane of sketches in two."""
        if self.window_milliseconds % (1000 * PANE_SECONDS):
            raise ValueError(f"window_seconds is {self.window_seconds:g}: it must be a multiple of {PANE_SECONDS}")
        return self
