"""The journal: one append-only log per shard that is truth, audit, idempotency and replay at once."""
