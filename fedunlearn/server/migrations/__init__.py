"""How a ledger of an earlier version becomes one of this version, by Alembic; `ledger_schema` runs it."""
