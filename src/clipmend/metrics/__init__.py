"""The numbers: rates, robustness, detection and visibility."""
