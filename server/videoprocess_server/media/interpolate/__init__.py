"""Makes up pictures between two frames."""
