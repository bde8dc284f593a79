"""Measurements of time and memory, outside the package and the tests."""
