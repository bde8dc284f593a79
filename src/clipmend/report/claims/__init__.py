"""Claims of the papers, each in one file with its numbers, its thresholds and its check."""
