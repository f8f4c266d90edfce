"""HTTP building blocks: bodies, content negotiation, tables, ranges, pagination, idempotency, events."""
