"""CLIP at the open_clip boundary: build, load, embed and train."""
