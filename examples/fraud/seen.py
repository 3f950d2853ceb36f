"""What the watchers came to know in the course of the demo."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

WINDOW_SECONDS: Final = 5.0


@dataclass
class Seen:
    """What the watchers came to know; times in seconds, rates as shares."""

    changed_at: float = 0.0
    drift: dict[str, Any] = field(default_factory=dict)
    early_alarms: int = 0
    recall_before: float | None = None
    recall_after: float | None = None
    labelled: int = 0
    case_seconds: float = float("inf")
    case_complete: bool = False
    bundle_verified: bool = False
    log_verified: bool = False
    log_entries: int = 0
    log_root: str = "-"

    @property
    def blamed(self) -> list[str]:
        """The features and outputs that the alarm names, worst first."""
        return [each["feature"] for each in self.drift.get("features", ())]

    @property
    def windows_late(self) -> float:
        """How many windows after the change the one begins that raised the alarm."""
        began = datetime.fromisoformat(self.drift["window_start"]).timestamp() if self.drift else float("inf")
        return (began - self.changed_at) / WINDOW_SECONDS
