"""What a result kept of its source, as programs that are not ours tell it."""
