"""Where results live: one schema, two doors.

``store.py`` writes, through SQLAlchemy. ``reading.py`` reads, through the standard library's sqlite3 where the store is
a SQLite file, because importing SQLAlchemy alone costs more than a whole ``bench table`` may take.
"""
