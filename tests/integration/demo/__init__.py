"""The example and the demo against a whole stack."""
