"""The shelf: one file per method."""
