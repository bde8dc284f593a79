"""Pairs and models that are small enough to be made for each test module."""

import json
from collections.abc import Callable

import pytest
import torch

from clipmend.data.splits import Pairs
from clipmend.model.clip import Clip, build

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
TOWERS = {
    "resnet": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
    "vit": {"image_size": 32, "layers": 8, "width": 32, "head_width": 16, "patch_size": 8},
    "shallow": {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8},
}
COUNT = 64


@pytest.fixture(scope="module")
def tiny_pairs() -> Pairs:
    generator = torch.Generator().manual_seed(0)
    words = ("red", "green", "blue", "small", "large", "old", "new", "round")
    return Pairs(
        ids=tuple(map(str, range(COUNT))),
        images=torch.randint(256, (COUNT, 3, 32, 32), generator=generator).to(torch.uint8),
        captions=tuple(f"a {words[row % 8]} thing {row // 8}" for row in range(COUNT)),
        label=torch.zeros(COUNT, dtype=torch.long),
        is_poisoned=torch.zeros(COUNT, dtype=torch.bool),
    )


@pytest.fixture(scope="module")
def tiny_model(
    tmp_path_factory: pytest.TempPathFactory, tiny_pairs: Pairs
) -> Callable[[str, int], Clip]:
    """Return a function that builds an untrained model of a kind of tower from a seed."""

    def made(tower: str, seed: int) -> Clip:
        path = tmp_path_factory.mktemp("config") / f"{tower}.json"
        fields = {"embed_dim": 16, "vision_cfg": TOWERS[tower], "text_cfg": TEXT}
        path.write_text(json.dumps(fields))
        return build(str(path), seed=seed).prune_vocabulary(tiny_pairs.captions).eval()

    return made
