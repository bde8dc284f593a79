"""How visible a trigger is: what it does to the pixels."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
STRENGTH = {
    "psnr": "peak signal-to-noise ratio of triggered to clean images in dB, mean over images",
    "ssim": "structural similarity (7 x 7 windows, mean over channels), mean over images",
    "changed": "share of pixels of which any channel differs, mean over images",
}


@dataclass(frozen=True)
class Strength:
    """Means over ``n`` images; ``psnr`` in dB, the others in [0, 1] (SSIM from -1)."""

    psnr: float
    ssim: float
    changed: float
    n: int

    def as_dict(self) -> dict[str, float]:
        """Return the fields by name."""
        return asdict(self)


def strength(
    clean: UInt8[Tensor, "samples 3 height width"],
    triggered: UInt8[Tensor, "samples 3 height width"],
) -> Strength | None:
    """Return how far images are changed; None where one is not changed at all."""
    differs = (clean != triggered).any(dim=1).flatten(1).float().mean(dim=1)
    if not (differs > 0).all():
        return None
    pairs = list(zip(clean.numpy(), triggered.numpy(), strict=True))
    return Strength(
        psnr=float(np.mean([_psnr(*pair) for pair in pairs])),
        ssim=float(np.mean([_ssim(*pair) for pair in pairs])),
        changed=float(differs.mean()),
        n=len(pairs),
    )


def _psnr(clean: Pixels, triggered: Pixels) -> float:
    return float(peak_signal_noise_ratio(clean, triggered))  # type: ignore[no-untyped-call]


def _ssim(clean: Pixels, triggered: Pixels) -> float:
    found = structural_similarity(  # type: ignore[no-untyped-call]
        clean, triggered, channel_axis=0
    )
    return float(found)
