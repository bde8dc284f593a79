"""Poison: an attack is applied to the training pairs."""
