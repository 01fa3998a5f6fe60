"""Who carries orders out: one protocol, and the brokers behind it."""
