"""Stabilisation: how the camera moved, how it should have moved, and the one warp of each frame that makes up the difference."""
