"""Adversarial fine-tuning: its images, its loss, and its effect on robustness."""

import pytest
import torch
from torch import nn

from clipmend.data.splits import Pairs, load_split
from clipmend.engine.job import Input
from clipmend.methods.repairs.adversarial_ft import AdversarialFT
from clipmend.metrics.adversarial import Budget, adversarial_examples, frozen, mismatch, pgd
from clipmend.model.batch_losses import multimodal
from clipmend.model.clip import Clip, build
from clipmend.model.fit import Batch, Schedule, Task, fit
from clipmend.model.losses import mmcl_loss

BUDGET = Budget(4 / 255, 2)


@pytest.fixture(scope="module")
def pairs(corpus: Input) -> Pairs:
    return load_split(corpus.folder, "trusted").blind().take(torch.arange(32))


@pytest.fixture
def model(pairs: Pairs) -> Clip:
    return build("scene_resnet", seed=0).prune_vocabulary(pairs.captions).train()


def batch_of(model: Clip, pairs: Pairs) -> Batch:
    return Batch(torch.arange(len(pairs)), pairs.images, model.tokenize(pairs.captions))


def attacked_loss(model: Clip, pairs: Pairs, budget: Budget) -> float:
    images, texts = pairs.images.float() / 255, model.encode_text(model.tokenize(pairs.captions))
    with frozen(model):
        attacked = pgd(images, mismatch(model, texts), budget)
        embeds = model.encode_image(attacked)
    return float(mmcl_loss(embeds, texts, model.logit_scale()).detach())


@pytest.mark.parametrize("clean", [0.0, 0.25, 0.5])
def test_batch_norm_sees_one_batch_per_step(model: Clip, pairs: Pairs, clean: float) -> None:
    AdversarialFT(epsilon=4.0, steps=2, clean=clean).loss(
        model, batch_of(model, pairs), torch.Generator()
    )
    counts = {
        int(module.num_batches_tracked)
        for module in model.modules()
        if isinstance(module, nn.BatchNorm2d) and module.num_batches_tracked is not None
    }
    assert counts == {1}


@pytest.mark.parametrize("clean", [0.0, 0.25, 1.0])
def test_the_loss_is_the_weighted_mean_of_clean_and_attacked_images(
    model: Clip, pairs: Pairs, clean: float
) -> None:
    model.eval()  # so that an image's embedding does not depend on the others
    batch, hardening = batch_of(model, pairs), AdversarialFT(epsilon=4.0, steps=2, clean=clean)
    computed = hardening.loss(model, batch, torch.Generator().manual_seed(3))
    images, texts = pairs.images.float() / 255, model.encode_text(batch.tokens)
    generator = torch.Generator().manual_seed(3)
    attacked = adversarial_examples(model, images, texts, "mismatch", BUDGET, generator)
    scale = model.logit_scale()
    hard = mmcl_loss(model.encode_image(attacked), texts, scale)
    easy = multimodal(model, batch, torch.Generator())
    assert torch.allclose(computed, clean * easy + (1 - clean) * hard, rtol=1e-4)


def test_it_resists_attacks_better_than_plain_fine_tuning(model: Clip, pairs: Pairs) -> None:
    schedule = Schedule(epochs=20, batch_size=16, lr=3e-3)
    plain, hardened = model.frozen_copy(), model.frozen_copy()
    fit(plain, Task(pairs, multimodal, schedule), torch.Generator().manual_seed(0))
    loss = AdversarialFT(epsilon=4.0, steps=2, clean=0.5).loss
    fit(hardened, Task(pairs, loss, schedule), torch.Generator().manual_seed(0))
    budget = Budget(BUDGET.epsilon, 5)
    assert attacked_loss(hardened, pairs, budget) < 0.7 * attacked_loss(plain, pairs, budget)
