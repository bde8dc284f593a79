"""Unlearn: the victim forgets a few suspects."""
