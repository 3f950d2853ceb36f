"""Traces as a real Jaeger shows them."""
