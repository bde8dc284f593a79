"""Declares to torch what torchvision needs before it can be imported."""

import importlib.metadata

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def _declare_missing_operators() -> "torch.library.Library | None":
    """Declare the two schemas that a CUDA-linked torchvision lacks beside a CPU torch.

    The package index has no CPU build of torchvision. Its compiled library does not load beside a
    CPU torch, and ``import torchvision`` fails at ``register_fake("torchvision::nms")``. clipmend
    calls neither operator. If the real ones load, nothing is declared: a second declaration is
    an error.
    """
    if torch.version.cuda is not None or "+cpu" in importlib.metadata.version("torchvision"):
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define(f"nms{_SCHEMA}")
    library.define(f"qnms{_SCHEMA}")
    return library


# Kept alive: a library that is garbage-collected removes its schemas.
_OPERATORS = _declare_missing_operators()
