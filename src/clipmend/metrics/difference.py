"""What a trigger changes, as an image to look at."""

import numpy as np

from clipmend.data.images import Pixels

AMPLIFIED = 4


def difference(clean: Pixels, triggered: Pixels) -> Pixels:
    """Return the change, amplified, about mid-gray: gray is a pixel that the attack left alone."""
    change = triggered.astype(np.int16) - clean.astype(np.int16)
    return np.clip(128 + AMPLIFIED * change, 0, 255).astype(np.uint8)
