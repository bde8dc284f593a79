"""A model is found as plain open_clip finds it, and saved so that it computes the same there."""

from pathlib import Path
from typing import Any

import pytest

from clipmend.engine.job import Input
from clipmend.errors import ModelError
from clipmend.model.clip import CONFIG
from clipmend.model.openclip import open_clip
from clipmend.tools.standalone.checkpoint import Checkpoint, find_checkpoint


def test_weights_are_taken_in_the_order_of_plain_open_clip(victim: Input, tmp_path: Path) -> None:
    config = (victim.folder / CONFIG).read_text()
    (tmp_path / CONFIG).write_text(config)
    for name in ("early.safetensors", "model.safetensors", "open_clip_model.safetensors"):
        (tmp_path / name).write_bytes(b"")
    taken = tmp_path / "open_clip_model.safetensors"
    assert find_checkpoint(str(tmp_path), None) == Checkpoint(str(tmp_path / CONFIG), taken)


def test_a_file_is_of_the_architecture_beside_it_unless_another_is_named(victim: Input) -> None:
    early = victim.folder / "early.safetensors"
    assert find_checkpoint(str(early), None).architecture == str(victim.folder / CONFIG)
    assert find_checkpoint(str(early), "RN50") == Checkpoint("RN50", early)


def test_a_tag_brings_its_activation_and_its_pixel_statistics(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """OpenAI's weights need QuickGELU, which the plain name's config does not have."""
    asked: dict[str, Any] = {}

    def create_model(name: str, **given: Any) -> Any:
        asked.update(given, name=name)
        return open_clip.CLIP(embed_dim=8, vision_cfg=SMALL, text_cfg={"width": 64, "layers": 1})

    monkeypatch.setattr(open_clip, "create_model", create_model)
    stated = open_clip.get_pretrained_cfg("ViT-B-32", "openai") | {"mean": (0.1, 0.2, 0.3)}
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda _name, _tag: stated)
    model = find_checkpoint("ViT-B-32:openai", None).load()
    assert asked == {"name": "ViT-B-32", "pretrained": "openai", "force_quick_gelu": True}
    assert model.config["model_cfg"]["quick_gelu"] is True
    assert model.config["preprocess_cfg"]["mean"] == [0.1, 0.2, 0.3]


SMALL = {"image_size": 32, "patch_size": 16, "width": 64, "layers": 1}


def test_weights_that_cannot_be_fetched_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def create_model(*_: Any, **__: Any) -> Any:
        raise RuntimeError("Failed to download\nno network")

    monkeypatch.setattr(open_clip, "create_model", create_model)
    with pytest.raises(
        ModelError, match=r"^The weights 'openai' of RN50 are not available: \S[^\n]*$"
    ):
        find_checkpoint("RN50:openai", None).load()
