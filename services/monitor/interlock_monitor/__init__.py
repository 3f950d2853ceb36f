"""The monitor service: a room with its topics ready; nothing runs here yet (see README.md)."""
