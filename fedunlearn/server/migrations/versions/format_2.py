"""Format 2: the hash-chained entries; a round's and a phase's seed and mask.

The chain begins with the digest of what was there before, and states each of those rows once.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

from fedunlearn.server import ledger_chain as chain
from fedunlearn.server.ledger_tables import append_only

revision = "2"
down_revision = "1"

_OWN_KEYS = {"requests": "sequence", "branches": "sequence", "rounds": "id", "phases": "id", "events": "id"}
_TABLES = (*_OWN_KEYS, "client_keys")


def upgrade() -> None:
    """Add the chain, and take into it what is there."""
    connection = op.get_bind()
    dialect = connection.dialect.name
    op.create_table(
        "entries",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("time", sa.String(40), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False, unique=True),
    )
    chain.begin(connection, context.config.attributes.get("run"), _rows(connection))
    for table in ("rounds", "phases"):
        op.add_column(table, sa.Column("seed", sa.BigInteger))
        op.add_column(table, sa.Column("mask", sa.String(64)))
    # Format 1 protected its events on SQLite only.
    protected = ("entries",) if dialect == "sqlite" else ("events", "entries")
    for table in protected:
        for statement in append_only(table, dialect):
            connection.exec_driver_sql(statement)


def _rows(connection: sa.Connection) -> dict[str, list[dict[str, object]]]:
    """The rows of format 1, in order, without the numbers that the database gave them."""
    found = {}
    for name in _TABLES:
        table = sa.Table(name, sa.MetaData(), autoload_with=connection)
        own = _OWN_KEYS.get(name)
        rows = connection.execute(sa.select(table).order_by(*table.primary_key.columns)).mappings()
        found[name] = [{column: value for column, value in row.items() if column != own} for row in rows]
    return found
