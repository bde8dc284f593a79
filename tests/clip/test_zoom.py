"""Zoomed views: what is cropped, where, and that blocks do not show."""

import torch

from clipmend.clip import zoom
from clipmend.clip.model import build
from clipmend.clip.zoom import zoomed, zoomed_embeds

GRADIENT = torch.arange(32, dtype=torch.uint8).mul(8).expand(1, 3, 32, 32).contiguous()


def test_the_whole_image_unmirrored_is_the_image() -> None:
    drawn = torch.tensor([[0.0, 0.5, 0.5, 0.9]])
    assert torch.equal(zoomed(GRADIENT, drawn, scale=(1.0, 1.0)), GRADIENT)


def test_the_mirror_turns_left_and_right_around() -> None:
    drawn = torch.tensor([[0.0, 0.5, 0.5, 0.1]])
    assert torch.equal(zoomed(GRADIENT, drawn, scale=(1.0, 1.0)), GRADIENT.flip(3))


def test_a_quarter_of_the_area_at_the_left_shows_the_left_half() -> None:
    drawn = torch.tensor([[0.0, 0.0, 0.5, 0.9]])
    view = zoomed(GRADIENT, drawn, scale=(0.25, 0.25))
    assert view.max() <= GRADIENT[..., :17].max()
    assert view.min() == GRADIENT.min()


def test_blocks_do_not_show(monkeypatch) -> None:
    images = torch.randint(256, (10, 3, 32, 32), dtype=torch.uint8)
    model = build("scene_resnet", seed=0)

    def embeds() -> torch.Tensor:
        return zoomed_embeds(model, images, torch.Generator().manual_seed(0), scale=(0.5, 0.8))

    whole = embeds()
    monkeypatch.setattr(zoom, "_BLOCK", 3)
    assert torch.allclose(embeds(), whole, atol=1e-6)
