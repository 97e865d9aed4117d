"""Where a task runs: one Protocol, its implementations, and the worker program."""
