"""Baselines: the other repairs."""
