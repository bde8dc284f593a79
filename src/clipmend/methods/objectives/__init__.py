"""Losses that pretraining minimizes."""
