"""Models at work: loading them, scoring with them, running them as Ray Serve applications; the one home of Ray."""
