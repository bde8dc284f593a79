"""Zoomed views: what is cropped, where, and that blocks do not show."""

import pytest
import torch

from clipmend.model import zoom
from clipmend.model.clip import build
from clipmend.model.zoom import zoomed, zoomed_similarity

GRADIENT = torch.arange(32, dtype=torch.uint8).mul(8).expand(1, 3, 32, 32).contiguous()


def test_a_crop_of_the_whole_image_is_its_mirror_image() -> None:
    drawn = torch.tensor([[0.0, 0.5, 0.5]])
    assert torch.equal(zoomed(GRADIENT, drawn, scale=(1.0, 1.0)), GRADIENT.flip(3))


@pytest.mark.parametrize(("place", "half"), [(0.0, slice(0, 17)), (0.999, slice(15, 32))])
def test_a_quarter_of_the_area_at_a_side_shows_half_of_the_width(place: float, half: slice) -> None:
    view = zoomed(GRADIENT, torch.tensor([[0.0, place, 0.5]]), scale=(0.25, 0.25))
    assert view.max() <= GRADIENT[..., half].max()
    assert view.min() >= GRADIENT[..., half].min()
    assert (view.int().diff(dim=3) <= 0).all()


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randint(256, (10, 3, 32, 32), dtype=torch.uint8)
    model = build("scene_resnet", seed=0)

    texts = torch.randn(10, model.embed_dim)

    def cosines() -> torch.Tensor:
        draw = torch.Generator().manual_seed(0)
        return zoomed_similarity(model, images, texts, draw, scale=(0.5, 0.8), views=2)

    whole = cosines()
    monkeypatch.setattr(zoom, "_block", lambda _: 3)
    assert torch.allclose(cosines(), whole, atol=1e-6)
