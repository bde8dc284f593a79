"""What a trigger draws anew for every image: a function of the seed and the image's id alone."""

import torch
from torch import Tensor

from clipmend.data.seeds import stream
from clipmend.methods.attacks.attack import Fitted
from clipmend.methods.attacks.knowledge import Knowledge


def own_seed(knowledge: Knowledge) -> dict[str, Tensor]:
    """Return the tensor that ``own_stream`` looks for."""
    return {"seed": torch.tensor(knowledge.seed)}


def own_stream(fitted: Fitted, row_id: str) -> torch.Generator:
    """Return the generator of one image; of a trigger that draws nothing, any."""
    seed = fitted.get("seed")
    return torch.Generator() if seed is None else stream(int(seed), f"trigger/{row_id}")
