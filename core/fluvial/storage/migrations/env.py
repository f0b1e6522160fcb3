"""Run by Alembic for every upgrade: takes the connection, and its transaction, from ``fluvial.storage.schema``."""

from alembic import context

from fluvial.storage.tables import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    transactional_ddl=True,  # SQLite too: the driver begins no transactions of its own, see sqlite.py
)
with context.begin_transaction():
    context.run_migrations()
