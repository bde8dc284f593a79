"""The open_clip boundary: what is saved loads elsewhere, what is pruned changes nothing."""

from math import exp
from pathlib import Path

import pytest
import torch

from clipmend.errors import ArtifactError, ModelError
from clipmend.model.clip import Clip, build, embed_texts, load
from clipmend.model.openclip import open_clip

CAPTIONS = ["a photo of a banana", "the red car on a plain background"]


@pytest.fixture(scope="module")
def model() -> Clip:
    return build("scene_resnet", seed=3).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (5, 3, 32, 32), dtype=torch.uint8, generator=generator)


def test_a_narrowed_vocabulary_gives_the_same_embeddings(model: Clip) -> None:
    pruned = build("scene_resnet", seed=3).prune_vocabulary(CAPTIONS).eval()
    torch.testing.assert_close(
        embed_texts(pruned, pruned.tokenize(CAPTIONS)),
        embed_texts(model, model.tokenize(CAPTIONS)),
    )


def test_a_word_outside_the_narrowed_vocabulary_is_refused() -> None:
    pruned = build("scene_resnet", seed=3).prune_vocabulary(CAPTIONS)
    with pytest.raises(ModelError, match="outside the pruned vocabulary"):
        pruned.tokenize(["a zebra"])


def test_blocks_of_captions_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    captions = [f"a photo of a {noun}" for noun in ("banana", "car", "red boat", "dog", "cat")]

    def tokens() -> torch.Tensor:
        return build("scene_resnet", seed=0).prune_vocabulary(captions).tokenize(captions)

    whole = tokens()
    monkeypatch.setattr("clipmend.model.clip._TEXTS", 2)
    assert torch.equal(tokens(), whole)
    assert whole.dtype == torch.int32
    assert build("scene_resnet", seed=0).tokenize([]).shape == (0, 16)


def test_narrowing_twice_loses_no_word(model: Clip) -> None:
    twice = build("scene_resnet", seed=3).prune_vocabulary(CAPTIONS).prune_vocabulary(["a zebra"])
    torch.testing.assert_close(
        twice.full_state()["token_embedding.weight"],
        model.full_state()["token_embedding.weight"],
    )


def test_what_is_saved_loads_in_plain_open_clip(model: Clip, tmp_path: Path) -> None:
    model.save(tmp_path)
    plain, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path}")
    with torch.no_grad():
        texts = plain.encode_text(tokenizer(CAPTIONS), normalize=True)
        ours = model.encode_text(model.tokenize(CAPTIONS))
    torch.testing.assert_close(texts, ours)
    assert list(preprocess.transforms[-1].mean) == model.config["preprocess_cfg"]["mean"]


def test_what_is_saved_loads_with_the_same_weights(model: Clip, tmp_path: Path) -> None:
    model.save(tmp_path)
    again = load(tmp_path).full_state()
    for name, value in model.full_state().items():
        assert torch.equal(again[name], value), name


def test_the_same_seed_builds_the_same_weights_whatever_was_drawn_before() -> None:
    one = build("scene_resnet", seed=5).full_state()
    torch.rand(7)
    two = build("scene_resnet", seed=5).full_state()
    other = build("scene_resnet", seed=6).full_state()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["text_projection"], other["text_projection"])


def test_eight_bit_and_float_images_embed_alike(model: Clip, images: torch.Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(
            model.encode_image(images), model.encode_image(images.float() / 255)
        )


def test_an_image_of_another_size_is_resized(model: Clip) -> None:
    with torch.no_grad():
        assert model.encode_image(torch.zeros(2, 3, 48, 48)).shape == (2, 64)


def test_an_unknown_model_names_those_there_are() -> None:
    with pytest.raises(ModelError, match="scene_resnet"):
        build("scene_resnett", seed=0)


def test_weights_that_do_not_fit_are_refused_in_one_line(tmp_path: Path) -> None:
    torch.save({"visual.conv1.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="do not fit this model") as refused:
        build("scene_resnet", seed=0, pretrained=str(tmp_path / "other.pt"))
    assert "\n" not in str(refused.value)


def test_a_checkpoint_of_another_architecture_is_told_by_what_it_has_and_lacks(
    model: Clip, tmp_path: Path
) -> None:
    state = model.full_state()
    state["visual.layer1.0.conv1.weight"] = torch.zeros(64, 64, 1, 1)
    state["visual.layer9"] = state.pop("visual.bn1.weight")
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(ModelError) as refused:
        build("scene_resnet", seed=0, pretrained=str(tmp_path / "other.pt"))
    line = str(refused.value)
    assert "1 missing (visual.bn1.weight), 1 unknown (visual.layer9), 1 of another shape" in line
    assert "(visual.layer1.0.conv1.weight is (64, 64, 1, 1), not " in line
    assert "\n" not in line


def test_a_pickle_that_is_no_tensor_is_not_run(tmp_path: Path) -> None:
    torch.save({"harm": Path}, tmp_path / "evil.pt")
    with pytest.raises(ModelError):
        build("scene_resnet", seed=0, pretrained=str(tmp_path / "evil.pt"))


def test_an_unknown_tag_is_refused_without_a_download() -> None:
    with pytest.raises(ModelError, match="open_clip tag"):
        build("RN50", seed=0, pretrained="no_such_tag")


def test_a_folder_without_a_model_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"model\.safetensors is missing"):
        load(tmp_path)


def test_a_head_with_a_bias_loads_in_plain_open_clip(tmp_path: Path) -> None:
    model = build("scene_resnet", seed=0, head={"init_logit_scale": 2.0, "init_logit_bias": -10.0})
    assert model.logit_bias().item() == -10
    assert model.logit_scale().item() == pytest.approx(exp(2.0))
    model.save(tmp_path)
    again = open_clip.create_model(f"local-dir:{tmp_path}")
    assert again.logit_bias.item() == -10
    assert load(tmp_path).logit_bias().item() == -10


def test_a_model_without_a_bias_has_none_to_add() -> None:
    assert build("scene_resnet", seed=0).logit_bias().item() == 0
