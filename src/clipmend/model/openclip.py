"""The one place where open_clip and torchvision are imported."""

import importlib.metadata

import torch
import torch.utils.deterministic

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def _declare_missing_operators() -> "torch.library.Library | None":
    """Declare the two schemas that a CUDA-linked torchvision lacks beside a CPU torch.

    The package index has no CPU build of torchvision: its compiled library does not load
    there, and ``import torchvision`` fails at ``register_fake("torchvision::nms")``.
    Neither operator is ever called here. Where the real ones load, nothing is declared,
    since declaring a schema twice is an error.
    """
    if torch.version.cuda is not None or "+cpu" in importlib.metadata.version("torchvision"):
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define(f"nms{_SCHEMA}")
    library.define(f"qnms{_SCHEMA}")
    return library


# Kept alive: a library that is collected takes its schemas with it.
_OPERATORS = _declare_missing_operators()

import open_clip  # noqa: E402  (only after the schemas stand)
from torchvision.transforms import v2 as transforms  # noqa: E402

torch.use_deterministic_algorithms(True, warn_only=True)
# Fresh memory would be filled with NaN, so that what reads it shows; a twelfth of every step.
torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
torch.backends.cudnn.benchmark = False

__all__ = ["open_clip", "transforms"]
