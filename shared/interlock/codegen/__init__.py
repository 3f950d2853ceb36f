"""The generator: all that follows from `schemas/` and from the code's own declarations, written by one command."""
