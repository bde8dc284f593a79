"""What happens: one file per stage, in the order of the data."""
