"""torchvision's transforms of tensors, apart from ``openclip``: they import torch's compiler."""

# isort: off
from clipmend.model import openclip  # first: it declares operators that torchvision may lack
from torchvision.transforms import v2 as transforms

__all__ = ["openclip", "transforms"]
