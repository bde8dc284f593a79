"""Poison a CLIP, then mend it: one graph from image-caption pairs to a table of defenses."""
