"""Pretrain: CLIP learns from corpus and overlay, under an objective."""
