"""Measures segments as they are made: noise, sharpness, likeness, shake."""
