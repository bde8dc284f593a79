"""Audit: what changed between two runs, and because of what."""
