"""Shows HDR as SDR."""
