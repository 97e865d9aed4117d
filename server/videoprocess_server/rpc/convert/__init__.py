"""Messages to model and back, by tables and plain functions; a request that cannot be read is refused here."""
