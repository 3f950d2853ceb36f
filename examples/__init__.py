"""Worked examples: model repositories and streams to try the platform with."""
