"""Builds the image of `Dockerfile` and runs it as an operator would, on a machine without a Docker engine."""
