"""A model is found as plain open_clip finds it, and saved so that it computes the same there."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from clipmend.engine.job import Input
from clipmend.errors import ModelError
from clipmend.model import clip
from clipmend.model.clip import CONFIG
from clipmend.model.openclip import needs_other_activation, open_clip
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


@pytest.fixture
def weights(victim: Input) -> dict[str, torch.Tensor]:
    return load_file(victim.folder / "model.safetensors")


def loaded(victim: Input, file: Path, content: object) -> dict[str, torch.Tensor]:
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    return find_checkpoint(str(file), str(victim.folder / CONFIG)).load().full_state()


def test_a_trainers_checkpoint_is_loaded_with_its_optimizer(
    victim: Input, weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    optimizer = {"lr": np.float64(0.1), "step": np.int64(3), "betas": np.arange(2.0)}
    content = {"epoch": 3, "state_dict": weights, "optimizer": optimizer, "args": Namespace(lr=1)}
    state = loaded(victim, tmp_path / "x.pt", content)
    assert all(torch.equal(state[name], weight) for name, weight in weights.items())


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module.", "module.model."]
)
def test_what_trainers_put_before_a_name_is_taken_off(
    victim: Input, weights: dict[str, torch.Tensor], tmp_path: Path, prefix: str
) -> None:
    content = {f"{prefix}{name}": weight for name, weight in weights.items()}
    state = loaded(victim, tmp_path / "x.pt", {"model_state_dict": content})
    assert all(torch.equal(state[name], weight) for name, weight in weights.items())


def test_a_checkpoint_that_needs_code_says_so_in_one_line(
    victim: Input, weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    for content, part in (
        (
            {"state_dict": weights, "path": tmp_path},
            r"it holds pathlib\.PosixPath, which only code",
        ),
        ([1, 2], "holds no weights, but list"),
        (b"{}", r"cannot be read: it is damaged, or of another format \([^\n]+\)\.$"),
        ({"epoch": 1}, "holds no weights, but epoch"),
        ({**weights, **{f"module.{n}": w for n, w in weights.items()}}, "twice, once as module"),
    ):
        with pytest.raises(ModelError, match=part) as caught:
            loaded(victim, tmp_path / "x.pt", content)
        assert "\n" not in str(caught.value)
        assert "\x1b" not in str(caught.value)


def test_weights_of_openai_s_shape_under_a_plain_name_are_warned_of(
    victim: Input, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = open_clip.get_model_config("ViT-B-32")
    assert needs_other_activation(plain) == "ViT-B-32-quickgelu"
    assert needs_other_activation(plain | {"quick_gelu": True}) is None
    early = find_checkpoint(str(victim.folder / "early.safetensors"), None)
    early.load()
    assert not caplog.records
    monkeypatch.setattr(clip, "needs_other_activation", lambda _: "ViT-B-32-quickgelu")
    early.load()
    assert "they need QuickGELU: name the model ViT-B-32-quickgelu" in caplog.text
