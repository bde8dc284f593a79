"""Deep visual prompts: learned tokens beside the patches, in the blocks of a vision transformer.

Each block from ``first_layer`` on has tokens of its own (VPT-deep, arXiv:2203.12119). They are
appended to its input, and cut off its output again. They take part in the attention of that block
alone. Only clipmend reads the weights of such a model: plain open_clip has no visual prompts.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clipmend.errors import ModelError
from clipmend.model.openclip import open_clip

VISUAL_PROMPTS = "visual_prompts"  # the field of a config, and a parameter of each block
_MOST = 1_000  # tokens; more would take hours, or all memory
_DEVIATION = 0.02  # of the initial values, as for the tokens of a transformer


def prompts_in(config: Mapping[str, Any]) -> dict[str, int]:
    """Return the settings of the visual prompts in a config: ``tokens`` and ``first_layer``.

    Raises:
        ModelError: the field has other content.
    """
    field = config[VISUAL_PROMPTS]
    bounds = {"tokens": range(1, _MOST + 1), "first_layer": range(_MOST)}
    is_valid = isinstance(field, Mapping) and field.keys() == bounds.keys()
    if not (is_valid and all(type(field[n]) is int and field[n] in bounds[n] for n in bounds)):
        raise ModelError(
            f"A config has {VISUAL_PROMPTS} {str(field)[:100]}; allowed are tokens from 1 to "
            f"{_MOST} and first_layer from 0, both whole numbers."
        )
    return dict(field)


def add_prompts(net: nn.Module, *, tokens: int, first_layer: int) -> None:
    """Add visual prompts to the image tower, initialized by the global generator of torch.

    The parameters have the device and the type of the tower's weights. A deep copy of the network
    has prompts of its own.

    Args:
        net: a network of open_clip.
        tokens: the number of tokens in each block.
        first_layer: the first block that has tokens, counted from 0.

    Raises:
        ModelError: the image tower is not a vision transformer of open_clip, it has visual prompts
            already, or it has no block from ``first_layer`` on.
    """
    tower = _tower(net)
    blocks = list(tower.transformer.resblocks)
    if first_layer >= len(blocks):
        raise ModelError(
            f"Visual prompts cannot start at layer {first_layer}: the image tower has "
            f"{len(blocks)} layers, counted from 0; lower first_layer."
        )
    if any(hasattr(block, VISUAL_PROMPTS) for block in blocks):
        raise ModelError("Visual prompts cannot be added: the image tower has some already.")
    for block in blocks[first_layer:]:
        values = tower.class_embedding.detach().new_empty(1, tokens, tower.transformer.width)
        block.register_parameter(VISUAL_PROMPTS, nn.Parameter(values.normal_(std=_DEVIATION)))
        block.register_forward_pre_hook(_append)
        block.register_forward_hook(_cut)


def _tower(net: nn.Module) -> Any:
    tower = getattr(net, "visual", None)
    # Of this class, the blocks have batches first, and no attention mask.
    if not isinstance(tower, open_clip.transformer.VisionTransformer):
        raise ModelError(
            "Visual prompts need a vision transformer of open_clip, but the image tower is of kind "
            f"{type(tower).__name__}."
        )
    return tower


# Functions of the module, which get the block: a deep copy of a block then uses its own prompts.
def _append(block: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    tokens: Tensor = inputs[0]
    prompts = block.get_parameter(VISUAL_PROMPTS).to(tokens.dtype)
    return (torch.cat([tokens, prompts.expand(len(tokens), -1, -1)], dim=1), *inputs[1:])


def _cut(block: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    return output[:, : -block.get_parameter(VISUAL_PROMPTS).shape[1]]


@contextmanager
def class_tokens(net: nn.Module) -> Iterator[list[Float[Tensor, "batch width"]]]:
    """Collect the class token after each block, for the images that the code inside encodes.

    Yields:
        a list to which each block appends in order, with a gradient if the encoding has one.

    Raises:
        ModelError: the image tower is not a vision transformer of open_clip.
    """
    collected: list[Tensor] = []

    def collect(_block: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> None:
        collected.append(output[:, 0])

    blocks = _tower(net).transformer.resblocks
    handles = [block.register_forward_hook(collect) for block in blocks]
    try:
        yield collected
    finally:
        for handle in handles:
            handle.remove()
