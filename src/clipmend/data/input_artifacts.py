"""The file of a detector of inputs, and the outputs of every rule.

It is not in ``artifacts``, which is part of the key of every victim.
"""

from clipmend.data import artifacts

INPUT_SCORES = "input_scores.parquet"
OUTPUTS = {**artifacts.OUTPUTS, "detect_inputs": {"input_scores": INPUT_SCORES}}
"""Rule -> name in the rule -> file, as in ``artifacts``, with the third rule of ``detect``."""
