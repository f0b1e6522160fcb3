"""The changes of the tables, in a chain; files are never edited once released."""
