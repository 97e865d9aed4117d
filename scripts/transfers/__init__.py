"""What bringing files to the service and fetching them costs. `scripts/bench_transfer.py` runs it."""
