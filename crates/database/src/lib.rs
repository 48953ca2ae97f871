//! All SQL: SQLite and PostgreSQL behind one facade.
