"""What ranks training pairs, or judges a model."""
