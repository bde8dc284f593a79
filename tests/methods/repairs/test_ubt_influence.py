"""The most influential patches of a ViT."""

import itertools
import json
from pathlib import Path

import pytest
import torch

from clipmend.errors import ModelError
from clipmend.methods.repairs.ubt_influence import influential_patches
from clipmend.model.clip import Clip, build, embed_images

VIT = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def vit(tmp_path_factory) -> Clip:
    path: Path = tmp_path_factory.mktemp("vit") / "tiny.json"
    path.write_text(json.dumps(VIT))
    return build(str(path), seed=0).eval()


def test_influential_patches_are_those_whose_removal_lowers_the_cosine_the_most(vit: Clip) -> None:
    images = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    directions = embed_images(vit, torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8))
    masks = influential_patches(vit, images, directions, keep=3)
    for image, direction, mask in zip(images, directions, masks, strict=True):
        cosine = {}
        for top, left in itertools.product(range(0, 32, 8), repeat=2):
            masked = image.clone()
            for channel in range(3):
                gray = image[channel].float().mean().round()
                masked[channel, top : top + 8, left : left + 8] = gray.to(torch.uint8)
            cosine[top, left] = float(embed_images(vit, masked[None])[0] @ direction)
        expected = torch.zeros(1, 32, 32, dtype=torch.bool)
        for top, left in sorted(cosine, key=cosine.__getitem__)[:3]:
            expected[:, top : top + 8, left : left + 8] = True
        assert torch.equal(mask, expected)


def test_an_image_tower_without_patches_is_refused() -> None:
    model = build("scene_resnet", seed=0)
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    with pytest.raises(ModelError, match="patches: 0"):
        influential_patches(model, images, torch.zeros(2, 64), keep=1)
