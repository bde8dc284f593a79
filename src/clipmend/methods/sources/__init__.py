"""Where a corpus comes from."""
