"""How records become bytes and back: framing, rows, columns, contracts and their compatibility."""
