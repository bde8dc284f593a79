"""Zoomed views show the sampled part of an image, and do not depend on the size of a block."""

import pytest
import torch

from clipmend.model import zoom
from clipmend.model.clip import build
from clipmend.model.zoom import zoomed, zoomed_similarity

GRADIENT = torch.arange(32, dtype=torch.uint8).mul(8).expand(1, 3, 32, 32).contiguous()


def test_a_crop_with_the_area_of_the_image_is_its_mirror_image() -> None:
    draws = torch.tensor([[0.0, 0.5, 0.5]])
    assert torch.equal(zoomed(GRADIENT, draws, scale=(1.0, 1.0)), GRADIENT.flip(3))


@pytest.mark.parametrize(("offset", "half"), [(0.0, slice(0, 17)), (0.999, slice(15, 32))])
def test_a_quarter_of_the_area_shows_half_of_the_width(offset, half) -> None:
    view = zoomed(GRADIENT, torch.tensor([[0.0, offset, 0.5]]), scale=(0.25, 0.25))
    assert view.max() <= GRADIENT[..., half].max()
    assert view.min() >= GRADIENT[..., half].min()
    assert (view.int().diff(dim=3) <= 0).all()


def test_similarities_do_not_depend_on_the_blocks(monkeypatch) -> None:
    images = torch.randint(256, (10, 3, 32, 32), dtype=torch.uint8)
    model = build("scene_resnet", seed=0)
    texts = torch.randn(10, model.embed_dim)

    def cosines() -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return zoomed_similarity(model, images, texts, generator, scale=(0.5, 0.8), views=2)

    expected = cosines()
    monkeypatch.setattr(zoom, "_block", lambda _: 3)
    assert torch.allclose(cosines(), expected, atol=1e-6)
