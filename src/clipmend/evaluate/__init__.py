"""Evaluate: clean accuracy and attack success rate of every model."""
