"""Methods that score training pairs, or the model, by how suspect they are."""
