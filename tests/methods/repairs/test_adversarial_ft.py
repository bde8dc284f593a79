"""Adversarial fine-tuning: its images, its loss, and its effect on robustness."""

import pytest
import torch
from torch import nn

from clipmend.data.splits import Pairs, load_split
from clipmend.engine.job import Input
from clipmend.methods.repairs.adversarial_ft import AdversarialLoss
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


def test_attacked_images_stay_within_epsilon_and_fit_their_captions_less(
    model: Clip, pairs: Pairs
) -> None:
    images, texts = pairs.images.float() / 255, model.encode_text(model.tokenize(pairs.captions))
    generator = torch.Generator().manual_seed(0)
    attacked = adversarial_examples(model, images, texts, "mismatch", BUDGET, generator)
    assert float((attacked - images).abs().max()) <= BUDGET.epsilon + 1e-6
    assert float(attacked.min()) >= 0
    assert float(attacked.max()) <= 1
    with frozen(model):
        aim = mismatch(model, texts)
        assert float(aim(attacked).mean()) > float(aim(images).mean())


def test_the_attack_changes_neither_batch_norm_nor_gradients(model: Clip, pairs: Pairs) -> None:
    before = {name: value.clone() for name, value in model.net.state_dict().items()}
    images = pairs.images.float() / 255
    texts = model.encode_text(model.tokenize(pairs.captions))
    adversarial_examples(model, images, texts, "mismatch", BUDGET, torch.Generator())
    after = model.net.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(p.grad is None and p.requires_grad for p in model.net.parameters())
    assert model.training


@pytest.mark.parametrize("clean", [0.0, 0.25, 0.5])
def test_batch_norm_sees_one_batch_per_step(model: Clip, pairs: Pairs, clean: float) -> None:
    AdversarialLoss(BUDGET, clean)(model, batch_of(model, pairs), torch.Generator())
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
    loss, batch = AdversarialLoss(BUDGET, clean), batch_of(model, pairs)
    computed = loss(model, batch, torch.Generator().manual_seed(3))
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
    loss = AdversarialLoss(BUDGET, 0.5)
    fit(hardened, Task(pairs, loss, schedule), torch.Generator().manual_seed(0))
    budget = Budget(BUDGET.epsilon, 5)
    assert attacked_loss(hardened, pairs, budget) < 0.7 * attacked_loss(plain, pairs, budget)
