"""Where prices come from, and what is let through to the engine."""
