"""Denoises pictures along motion."""
