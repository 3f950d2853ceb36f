"""The monitor service: what every version answered, window by window (see README.md)."""
