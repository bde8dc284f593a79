"""Detect: every training pair gets a score, higher = more suspect."""
