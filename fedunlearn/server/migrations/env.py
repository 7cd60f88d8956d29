"""Alembic's entry: migrates on the connection, and in the transaction, that `ledger_schema` holds."""

from __future__ import annotations

from alembic import context

from fedunlearn.server.ledger_tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
