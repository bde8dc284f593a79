"""Models are built, pruned, saved and loaded with the same weights as in open_clip."""

import json
import subprocess
import sys
from math import exp
from pathlib import Path

import pytest
import torch
from torch import Tensor

from clipmend.errors import ArtifactError, ModelError
from clipmend.model.clip import Clip, build, embed_texts, load
from clipmend.model.openclip import create_pretrained, open_clip

CAPTIONS = ["a photo of a banana", "the red car on a plain background"]


@pytest.fixture(scope="module")
def model() -> Clip:
    return build("scene_resnet", seed=3).eval()


def test_a_pruned_vocabulary_gives_the_same_embeddings_and_refuses_other_words(model) -> None:
    pruned = build("scene_resnet", seed=3).prune_vocabulary(CAPTIONS).eval()
    own, expected = (embed_texts(clip, clip.tokenize(CAPTIONS)) for clip in (pruned, model))
    torch.testing.assert_close(own, expected)
    with pytest.raises(ModelError, match="outside the pruned vocabulary"):
        pruned.tokenize(["a zebra"])


def test_tokens_do_not_depend_on_the_blocks_of_captions(monkeypatch) -> None:
    captions = [f"a photo of a {noun}" for noun in ("banana", "car", "red boat", "dog", "cat")]

    def tokens() -> Tensor:
        return build("scene_resnet", seed=0).prune_vocabulary(captions).tokenize(captions)

    expected = tokens()
    monkeypatch.setattr("clipmend.model.clip._TEXTS", 2)
    assert torch.equal(tokens(), expected)
    assert expected.dtype == torch.int32
    assert build("scene_resnet", seed=0).tokenize([]).shape == (0, 16)


def test_pruning_twice_loses_no_word(model) -> None:
    twice = build("scene_resnet", seed=3).prune_vocabulary(CAPTIONS).prune_vocabulary(["a zebra"])
    words, expected = (clip.full_state()["token_embedding.weight"] for clip in (twice, model))
    torch.testing.assert_close(words, expected)


def test_a_saved_model_is_the_same_here_and_in_plain_open_clip(model, tmp_path) -> None:
    model.save(tmp_path)
    loaded = load(tmp_path).full_state()
    assert all(torch.equal(loaded[name], value) for name, value in model.full_state().items())
    plain, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path}")
    with torch.no_grad():
        texts = plain.encode_text(tokenizer(CAPTIONS), normalize=True)
        torch.testing.assert_close(texts, model.encode_text(model.tokenize(CAPTIONS)))
    assert list(preprocess.transforms[-1].mean) == model.config["preprocess_cfg"]["mean"]


def test_the_seed_alone_decides_the_initial_weights() -> None:
    first = build("scene_resnet", seed=5).full_state()
    torch.rand(7)  # the global generator of torch has another state now
    second = build("scene_resnet", seed=5).full_state()
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = build("scene_resnet", seed=6).full_state()
    assert not torch.equal(first["text_projection"], other["text_projection"])


def test_8_bit_and_float_images_have_the_same_embedding(model) -> None:
    images = torch.randint(256, (5, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        embeds, expected = model.encode_image(images), model.encode_image(images.float() / 255)
    torch.testing.assert_close(embeds, expected)


def test_an_image_of_another_size_is_resized(model) -> None:
    with torch.no_grad():
        assert model.encode_image(torch.zeros(2, 3, 48, 48)).shape == (2, 64)


@pytest.mark.parametrize(
    ("name", "pretrained", "message"),
    [("scene_resnett", None, "scene_resnet"), ("RN50", "no_such_tag", "open_clip tag")],
)
def test_an_unknown_model_or_tag_is_refused_without_a_download(name, pretrained, message) -> None:
    with pytest.raises(ModelError, match=message):
        build(name, seed=0, pretrained=pretrained)


def test_the_error_for_weights_of_another_architecture_lists_the_differences(
    model, tmp_path
) -> None:
    state = model.full_state()
    state["visual.layer1.0.conv1.weight"] = torch.zeros(64, 64, 1, 1)
    state["visual.layer9"] = state.pop("visual.bn1.weight")
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="do not fit this model") as refused:
        build("scene_resnet", seed=0, pretrained=str(tmp_path / "other.pt"))
    line = str(refused.value)
    assert "1 missing (visual.bn1.weight), 1 unknown (visual.layer9), 1 of another shape" in line
    assert "(visual.layer1.0.conv1.weight is (64, 64, 1, 1), not " in line
    assert "\n" not in line


def test_a_pickle_of_other_objects_than_tensors_is_not_loaded(tmp_path) -> None:
    torch.save({"harm": Path}, tmp_path / "evil.pt")
    with pytest.raises(ModelError):
        build("scene_resnet", seed=0, pretrained=str(tmp_path / "evil.pt"))


def test_a_folder_without_a_model_names_the_missing_file(tmp_path) -> None:
    with pytest.raises(ArtifactError, match=r"model\.safetensors is missing"):
        load(tmp_path)


def test_a_bias_of_the_head_is_saved_and_is_0_by_default(tmp_path) -> None:
    model = build("scene_resnet", seed=0, head={"init_logit_scale": 2.0, "init_logit_bias": -10.0})
    assert model.logit_bias().item() == -10
    assert model.logit_scale().item() == pytest.approx(exp(2.0))
    model.save(tmp_path)
    plain = open_clip.create_model(f"local-dir:{tmp_path}")
    assert plain.logit_bias.item() == -10
    assert load(tmp_path).logit_bias().item() == -10
    assert build("scene_resnet", seed=0).logit_bias().item() == 0


def test_folded_batch_norms_give_the_same_embeddings_and_gradients() -> None:
    model = build("scene_resnet", seed=0).double()
    images = torch.rand(16, 3, 32, 32, dtype=torch.float64)
    model.train()
    model.encode_image(3 * images)  # statistics other than the initial ones
    model.eval()

    def outcome() -> list[torch.Tensor]:
        pixels = images.clone().requires_grad_(True)
        embeds = model.encode_image(pixels)
        return [embeds, *torch.autograd.grad(embeds[:, 0].sum(), pixels)]

    before = outcome()
    model.fold_batch_norms()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    for old, new in zip(before, outcome(), strict=True):
        torch.testing.assert_close(new, old, atol=1e-10, rtol=1e-8)


def test_a_model_with_a_tower_of_timm_is_saved_and_loaded(tmp_path: Path) -> None:
    config = {
        "embed_dim": 16,
        "vision_cfg": {"timm_model_name": "resnet10t", "timm_pool": "avg", "image_size": 32},
        "text_cfg": {"context_length": 8, "width": 16, "heads": 1, "layers": 1},
    }
    (tmp_path / "timm.json").write_text(json.dumps(config))
    build(str(tmp_path / "timm.json"), seed=0).save(tmp_path)
    # In a process of its own: `build` has imported timm here.
    code = "import sys, torch, pathlib; from clipmend.model.clip import load; "
    code += "print(*load(pathlib.Path(sys.argv[1])).encode_image(torch.zeros(2, 3, 32, 32)).shape)"
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "2 16\n"


def test_evaluation_and_training_do_not_import_what_takes_longer_than_torch() -> None:
    needed = "sys, torch, clipmend.stages.evaluate, clipmend.methods.objectives.mmcl_ssl"
    heavy = "{'timm', 'huggingface_hub', 'torchvision.models.resnet', 'sympy', 'pandas', "
    heavy += "'torch._dynamo', 'torch._inductor', 'sklearn'}"
    code = f"""
import {needed}
from clipmend.model.optimizers import Adam, AdamW
weight = torch.nn.Parameter(torch.ones(2))
for optimizer in Adam([weight]), AdamW([weight]):
    optimizer.zero_grad()
    weight.sum().backward()
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
print(sorted({heavy} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_weights_of_the_hub_are_asked_for_with_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """open_clip is imported without the client, and must see it where weights are downloaded."""
    has_client = []

    def create_model(_name: str, **_: object) -> torch.nn.Module:
        has_client.append(open_clip.pretrained.has_hf_hub(True))
        return torch.nn.Linear(1, 1)

    monkeypatch.setattr(open_clip, "create_model", create_model)
    create_pretrained("ViT-B-32", "laion400m_e32")
    assert has_client == [True]
    assert callable(open_clip.pretrained.hf_hub_download)
