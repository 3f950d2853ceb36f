"""The control plane's truth: journal, inbox and outbox in one Postgres transaction."""
