"""SigLIP: its loss, its head, and a folder that plain open_clip reads."""

import json
from math import exp, log, log1p
from typing import Any

import open_clip
import pytest
import torch

from clipmend.engine.job import Input
from clipmend.methods.objectives.siglip import SigLIP, sigmoid_loss
from clipmend.model.clip import CONFIG, load

MODEL = {"model": "scene_resnet", "pretrained": None}
SCALE, BIAS = torch.tensor(10.0), torch.tensor(-10.0)


def softplus(value: float) -> float:
    return log1p(exp(value))


def test_the_loss_of_two_pairs_matches_a_computation_by_hand() -> None:
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    texts = torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    cosines = [[0.6, 0.0], [0.8, 1.0]]
    logits = [[10 * cosine - 10 for cosine in row] for row in cosines]
    expected = (
        softplus(-logits[0][0])
        + softplus(logits[0][1])
        + softplus(logits[1][0])
        + softplus(-logits[1][1])
    ) / 2
    assert float(sigmoid_loss(images, texts, SCALE, BIAS)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("samples", [1, 2, 7])
def test_indistinguishable_pairs_have_the_closed_form(samples: int) -> None:
    same = torch.nn.functional.normalize(torch.ones(samples, 4), dim=1)
    expected = softplus(5.0) + (samples - 1) * softplus(-5.0)  # of logits of 5 - 10 = -5
    loss = sigmoid_loss(same, same, torch.tensor(5.0), BIAS)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_a_gradient_step_pulls_matching_pairs_together_and_others_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.nn.functional.normalize(
        torch.randn(2, 6, 16, generator=generator), dim=2
    ).unbind()
    images.requires_grad_(True)
    scale, bias = SCALE.clone(), torch.tensor(-1.0, requires_grad=True)
    sigmoid_loss(images, texts, scale, bias).backward()
    assert images.grad is not None
    moved = ((images - 0.01 * images.grad) @ texts.T - images @ texts.T).detach()
    assert (moved.diagonal() > 0).all()
    assert moved.sum() < moved.diagonal().sum()  # the others fall together
    assert bias.grad is not None
    assert bias.grad > 0  # 30 mismatches against 6 matches: the bias falls


def test_the_victim_starts_at_the_papers_head_and_loads_in_plain_open_clip(
    world: Any, corpus: Input, poison: Input
) -> None:
    assert SigLIP().head() == {"init_logit_scale": log(10), "init_logit_bias": -10.0}
    made = world.run(
        "pretrain/siglip/badnet/siglip/seed0",
        "siglip",
        {"corpus": corpus, "poison": poison},
        {"epochs": 1, "batch_size": 64},
        MODEL,
    )
    stated = json.loads((made.folder / CONFIG).read_text())["model_cfg"]
    assert stated["init_logit_bias"] == -10.0
    ours = load(made.folder)
    plain = open_clip.create_model(f"local-dir:{made.folder}").eval()
    bias = ours.logit_bias().detach()
    assert torch.equal(plain.logit_bias.detach(), bias)
    assert float(bias) != -10.0  # it has been trained
    tokens = ours.tokenize(["a photo of a banana"])
    torch.testing.assert_close(plain.encode_text(tokens, normalize=True), ours.encode_text(tokens))
