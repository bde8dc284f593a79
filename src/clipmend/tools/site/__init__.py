"""The pages that are generated from the code and from the committed results."""
