"""Run by Alembic for every upgrade of any chain: takes connection, transaction and version table from ``fluvial.storage.schema``."""

from alembic import context

attributes = context.config.attributes
context.configure(
    connection=attributes["connection"],
    version_table=attributes["version_table"],
    transactional_ddl=True,  # SQLite too: the driver begins no transactions of its own, see sqlite.py
)
with context.begin_transaction():
    context.run_migrations()
