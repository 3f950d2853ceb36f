"""The tests: a package of its own, lest another distribution's top-level `tests` be taken for it."""
