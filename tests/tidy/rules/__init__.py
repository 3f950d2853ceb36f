"""Rules as pure functions: each takes the repository's root and returns what breaks it, a line each."""
