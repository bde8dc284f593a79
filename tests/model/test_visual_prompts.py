"""Visual prompts take part in their own block, and are saved, loaded and copied with the model."""

import copy
import json
from pathlib import Path

import pytest
import torch

from clipmend.errors import ModelError
from clipmend.model.architecture import model_config, net_of
from clipmend.model.clip import CONFIG, Clip, build, load
from clipmend.model.visual_prompts import add_prompts, class_tokens

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
VISION = {"image_size": 16, "layers": 4, "width": 32, "head_width": 16, "patch_size": 8}
PROMPTS = {"tokens": 3, "first_layer": 2}
IMAGES = torch.randint(256, (5, 3, 16, 16), dtype=torch.uint8)
NAME = "visual.transformer.resblocks.{}.visual_prompts"


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    path: Path = tmp_path_factory.mktemp("vit") / "vit.json"
    path.write_text(json.dumps({"embed_dim": 8, "vision_cfg": VISION, "text_cfg": TEXT}))
    return path


@pytest.fixture
def victim(config: Path) -> Clip:
    return build(str(config), seed=3).eval()


@pytest.fixture
def prompted(config: Path) -> Clip:
    model = build(str(config), seed=3).eval()
    model.add_visual_prompts(**PROMPTS)
    return model


@torch.no_grad()
def embeds_of(model: Clip) -> torch.Tensor:
    return model.encode_image(IMAGES)


def test_blocks_from_the_first_layer_on_have_prompts_and_other_weights_stay(
    victim: Clip, prompted: Clip
) -> None:
    before, after = victim.full_state(), prompted.full_state()
    assert {n: tuple(after[n].shape) for n in after.keys() - before.keys()} == {
        NAME.format(2): (1, 3, 32),
        NAME.format(3): (1, 3, 32),
    }
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not torch.equal(embeds_of(victim), embeds_of(prompted))


def test_a_vit_b_32_has_as_many_prompts_as_published() -> None:
    # 0.34 million parameters, 0.27 % of the model (arXiv:2412.20392).
    with torch.device("meta"):
        net = net_of(
            {**model_config("ViT-B-32"), "visual_prompts": {"tokens": 50, "first_layer": 3}}
        )
    counts = [value.numel() for name, value in net.named_parameters() if "visual_prompts" in name]
    assert sum(counts) == 345_600


def test_a_block_attends_to_its_prompts_and_returns_its_own_tokens(
    victim: Clip, prompted: Clip
) -> None:
    tokens = torch.randn(2, 5, 32)
    plain, block = (clip.net.visual.transformer.resblocks[3] for clip in (victim, prompted))
    prompts = block.visual_prompts.expand(2, -1, -1)
    expected = plain(torch.cat([tokens, prompts], dim=1))[:, :5]
    torch.testing.assert_close(block(tokens), expected)


def test_a_saved_model_has_the_same_embeddings_and_so_has_a_copy(prompted: Clip, tmp_path) -> None:
    expected = embeds_of(prompted)
    prompted.save(tmp_path)
    assert torch.equal(embeds_of(load(tmp_path)), expected)
    frozen = prompted.frozen_copy()
    with torch.no_grad():
        prompted.net.visual.transformer.resblocks[2].visual_prompts.add_(1.0)
    assert torch.equal(embeds_of(frozen), expected)
    assert not torch.equal(embeds_of(prompted), expected)


def test_an_untrained_model_of_a_saved_config_has_prompts_of_its_seed(
    prompted: Clip, tmp_path
) -> None:
    prompted.save(tmp_path)
    first, same, other = (build(str(tmp_path / CONFIG), seed=seed) for seed in (5, 5, 6))
    states = [model.full_state()[NAME.format(2)] for model in (first, same, other)]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    assert first.config == prompted.config


def test_recomputed_activations_give_the_same_gradient(prompted: Clip) -> None:
    def gradients(model: Clip) -> list[torch.Tensor]:
        with class_tokens(model.net) as tokens:
            loss = model.encode_image(IMAGES).square().sum() + sum(t.sum() for t in tokens)
        loss.backward()
        return [p.grad for p in model.net.visual.parameters()]

    other = copy.deepcopy(prompted)
    other.checkpoint_towers()
    torch.testing.assert_close(gradients(other), gradients(prompted))


def test_the_last_class_token_gives_the_embedding(prompted: Clip) -> None:
    with torch.no_grad(), class_tokens(prompted.net) as tokens:
        embeds = prompted.encode_image(IMAGES)
    assert [tuple(token.shape) for token in tokens] == [(5, 32)] * 4
    visual = prompted.net.visual
    expected = torch.nn.functional.normalize(visual.ln_post(tokens[-1]) @ visual.proj, dim=-1)
    torch.testing.assert_close(embeds, expected)
    embeds_of(prompted)
    assert len(tokens) == 4  # nothing is collected any more


def test_an_image_tower_that_cannot_have_prompts_is_refused(prompted: Clip) -> None:
    resnet = build("scene_resnet", seed=0)
    with pytest.raises(ModelError, match="open_clip, but the image tower is of kind Mod"):
        resnet.add_visual_prompts(**PROMPTS)
    assert "visual_prompts" not in resnet.config
    with pytest.raises(ModelError, match="ModifiedResNet"), class_tokens(resnet.net):
        pass
    with pytest.raises(ModelError, match="has some already"):
        add_prompts(prompted.net, tokens=3, first_layer=2)
    with pytest.raises(ModelError, match="at layer 4: the image tower has 4 layers"):
        add_prompts(prompted.net, tokens=3, first_layer=4)


@pytest.mark.parametrize(
    "field",
    [7, {}, {"tokens": 3}, {**PROMPTS, "more": 1}, {**PROMPTS, "tokens": 0},
     {**PROMPTS, "tokens": 10**9}, {**PROMPTS, "first_layer": -1}, {**PROMPTS, "tokens": True}],
)  # fmt: skip
def test_a_config_with_prompts_that_cannot_be_is_refused(field, prompted: Clip, tmp_path) -> None:
    prompted.save(tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps({**config, "visual_prompts": field}))
    with pytest.raises(ModelError, match="allowed are tokens from 1 to"):
        load(tmp_path)
