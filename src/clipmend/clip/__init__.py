"""The open_clip boundary: build, save, load, embed, fit, losses, views, zero-shot."""
