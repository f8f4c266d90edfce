"""Tables of the SQL store. Every change needs a migration; a test detects a difference between the two."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

# `seq` increases with creation. `events` is the id of the sweep's last event. `served_at` is when one of its cells was
# last leased. No cell at a position below `first_pending` is pending, except quarantined ones. `model` is the model of
# its cells, by the name it had when the sweep was submitted. `finalizer` is the holder of the lease on a finalizing
# sweep. The row of a deleted sweep stays, without what its user wrote, so that files of late writers are recognized and
# sums never shrink.
sweeps = sa.Table(
    "sweeps",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String, nullable=False, unique=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False, index=True),
    sa.Column("owner", sa.String, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("model", sa.String, nullable=False),
    sa.Column("spec", sa.JSON, nullable=False),
    sa.Column("warnings", sa.JSON, nullable=False),
    sa.Column("idempotency_key", sa.String, unique=True),
    sa.Column("total", sa.Integer, nullable=False),
    sa.Column("completed", sa.Integer, nullable=False),
    sa.Column("failed", sa.Integer, nullable=False),
    sa.Column("leased", sa.Integer, nullable=False),
    sa.Column("reused", sa.Integer, nullable=False),
    sa.Column("samples", sa.BigInteger, nullable=False),
    sa.Column("failed_samples", sa.BigInteger, nullable=False),
    sa.Column("served_at", sa.Float, nullable=False),
    sa.Column("first_pending", sa.Integer, nullable=False),
    sa.Column("events", sa.Integer, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("ended_at", sa.Float),
    sa.Column("expired_at", sa.Float),
    sa.Column("deleted_at", sa.Float),
    sa.Column("error", sa.Text),
    sa.Column("files", sa.JSON(none_as_null=True)),
    sa.Column("finalizer", sa.String),
    sa.Column("finalizer_epoch", sa.Integer, nullable=False),
    sa.Column("finalizer_expires_at", sa.Float),
)

sweep_tags = sa.Table(
    "sweep_tags",
    metadata,
    sa.Column("sweep_seq", sa.ForeignKey("sweeps.seq"), primary_key=True),
    sa.Column("tag", sa.String, primary_key=True, index=True),
)

# `model` is the name under which the cell was planned or last leased; sweeps may have other names for the same model.
# It is for those who query the database: the store itself reads the name in `body`.
# `suspect` marks a quarantined cell, `lapses` counts expired leases (see `jobs.store.cell_state`).
cells = sa.Table(
    "cells",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("body", sa.JSON, nullable=False),
    sa.Column("model", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("suspect", sa.Boolean, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("lapses", sa.Integer, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("owner", sa.String),
    sa.Column("expires_at", sa.Float),
    sa.Column("error", sa.Text),
    sa.Column("file", sa.String),
    sa.Column("rows", sa.Integer),
    sa.Column("sha256", sa.String),
    sa.Column("samples", sa.Integer, nullable=False),
    sa.Column("failed_samples", sa.Integer, nullable=False),
    sa.Column("sample_error", sa.Text),
    sa.Index("ix_cells_state_suspect", "state", "suspect"),
)

sweep_cells = sa.Table(
    "sweep_cells",
    metadata,
    sa.Column("sweep_seq", sa.ForeignKey("sweeps.seq"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("cell_id", sa.ForeignKey("cells.id"), nullable=False, index=True),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("sweep_seq", sa.ForeignKey("sweeps.seq"), primary_key=True),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("type", sa.String, nullable=False),
    sa.Column("data", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
)

# `samples` is the hash of the samples that are evaluated, `judge` the model that rates them. `available_at` is the time
# from which on an evaluation can be leased: the end of its lease, or of the delay after an interruption.
evaluations = sa.Table(
    "evaluations",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("sweep_seq", sa.ForeignKey("sweeps.seq"), nullable=False, index=True),
    sa.Column("samples", sa.String, nullable=False),
    sa.Column("request", sa.JSON, nullable=False),
    sa.Column("judge", sa.String),
    sa.Column("state", sa.String, nullable=False, index=True),
    sa.Column("expirations", sa.Integer, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("owner", sa.String),
    sa.Column("available_at", sa.Float),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("started_at", sa.Float),
    sa.Column("ended_at", sa.Float),
    sa.Column("error", sa.Text),
    sa.Column("groups", sa.JSON(none_as_null=True)),
    sa.Column("left_out", sa.Integer),
)

# `key` is that of `jobs.evaluation.judge.rating_key`.
ratings = sa.Table(
    "ratings",
    metadata,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("judge", sa.String, nullable=False),
    sa.Column("score", sa.Integer),
    sa.Column("reply", sa.Text, nullable=False),
)

# Files that clients uploaded, and the output of batches.
files = sa.Table(
    "files",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String, nullable=False, unique=True),
    sa.Column("owner", sa.String, nullable=False),
    sa.Column("filename", sa.String, nullable=False),
    sa.Column("purpose", sa.String, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("expires_at", sa.Float),
)

# `owner` created the batch, `leaseholder` runs it. `available_at` is as in `evaluations`.
batches = sa.Table(
    "batches",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String, nullable=False, unique=True),
    sa.Column("owner", sa.String, nullable=False),
    sa.Column("endpoint", sa.String, nullable=False),
    sa.Column("input_file_id", sa.String, nullable=False),
    sa.Column("metadata", sa.JSON(none_as_null=True)),
    sa.Column("state", sa.String, nullable=False, index=True),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("expirations", sa.Integer, nullable=False),
    sa.Column("leaseholder", sa.String),
    sa.Column("leased_at", sa.Float),
    sa.Column("available_at", sa.Float),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("expires_at", sa.Float, nullable=False),
    sa.Column("times", sa.JSON, nullable=False),
    sa.Column("total", sa.Integer, nullable=False),
    sa.Column("completed", sa.Integer, nullable=False),
    sa.Column("failed", sa.Integer, nullable=False),
    sa.Column("output_expires_after", sa.Float),
    sa.Column("output_file_id", sa.String),
    sa.Column("error_file_id", sa.String),
    sa.Column("error", sa.Text),
)
