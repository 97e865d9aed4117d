"""Who takes part in bench_crowd.py."""
