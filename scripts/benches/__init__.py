"""The parts of `make bench`, one a file: each has `NAME`, `add_options` and `run`. `scripts/bench.py` lists them."""
