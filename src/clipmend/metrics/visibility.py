"""How visible a trigger is, as numbers and as an image."""

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import UInt8
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from clipmend.data.images import Pixels

STRENGTH = {
    "psnr": "peak signal-to-noise ratio of triggered to clean images, dB, mean over images changed",
    "ssim": "structural similarity (7 x 7 windows, mean over channels), mean over images changed",
    "changed": "share of pixels of which any channel differs, mean over images changed",
    "n_unchanged": "images that the trigger leaves as they are, which no mean is over",
}


@dataclass(frozen=True)
class Strength:
    """Means over the ``n`` changed images, as defined in ``STRENGTH``.

    ``psnr`` is in dB, ``ssim`` in [-1, 1], ``changed`` in [0, 1].
    """

    psnr: float
    ssim: float
    changed: float
    n: int
    n_unchanged: int

    def as_dict(self) -> dict[str, float]:
        """Return the fields by name."""
        return asdict(self)


def strength(
    clean: UInt8[Tensor, "samples 3 height width"],
    triggered: UInt8[Tensor, "samples 3 height width"],
) -> Strength | None:
    """Return how strongly the trigger changes the images that it changes; None if none."""
    # A trigger may leave an image unchanged, such as a warp of plain color. Its signal-to-noise
    # ratio is infinite, and so would be the mean.
    differs = (clean != triggered).any(dim=1).flatten(1).float().mean(dim=1)
    is_changed = differs > 0
    if not is_changed.any():
        return None
    pairs = list(zip(clean[is_changed].numpy(), triggered[is_changed].numpy(), strict=True))
    return Strength(
        psnr=float(np.mean([_psnr(*pair) for pair in pairs])),
        ssim=float(np.mean([_ssim(*pair) for pair in pairs])),
        changed=float(differs[is_changed].mean()),
        n=len(pairs),
        n_unchanged=len(clean) - len(pairs),
    )


def _psnr(clean: Pixels, triggered: Pixels) -> float:
    return float(peak_signal_noise_ratio(clean, triggered))  # type: ignore[no-untyped-call]


def _ssim(clean: Pixels, triggered: Pixels) -> float:
    similarity = structural_similarity(  # type: ignore[no-untyped-call]
        clean, triggered, channel_axis=0
    )
    return float(similarity)


AMPLIFIED = 4


def difference(clean: Pixels, triggered: Pixels) -> Pixels:
    """Return the change times ``AMPLIFIED`` around mid-gray; gray pixels are unchanged."""
    change = triggered.astype(np.int16) - clean.astype(np.int16)
    return np.clip(128 + AMPLIFIED * change, 0, 255).astype(np.uint8)
