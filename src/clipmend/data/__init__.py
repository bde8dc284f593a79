"""Pairs on disk to batches in memory."""
