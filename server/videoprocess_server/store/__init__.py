"""Durable rows: one Protocol, its implementations, and the SQL."""
