"""What tests need: clocks that move when told to, publishers that remember, contract suites; for users' tests too."""

from __future__ import annotations

from interlock.testing.clock import ManualClock

__all__ = ["ManualClock"]
