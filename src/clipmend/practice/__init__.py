"""A practitioner's own model and pairs: who is suspect, and a mended model; no labels, no grid."""
