"""The client and the command line against a whole stack."""
