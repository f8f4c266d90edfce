"""Runs migrations on the connection that `jobs.store.sql.database` passes in; a run without one is not supported."""

from __future__ import annotations

from alembic import context

from jobs.store.sql.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
