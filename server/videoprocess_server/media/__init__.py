"""The only place that knows av and numpy: iterators in, iterators out."""
