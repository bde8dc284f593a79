"""InverTune: the inverted trigger, the neurons that it moves, and its refusals."""

import copy
import logging
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from skimage.metrics import structural_similarity as reference_similarity

from clipmend.data.splits import Pairs
from clipmend.errors import ModelError, TrainingError
from clipmend.methods.interfaces import Assets
from clipmend.methods.repairs.critical_neurons import (
    CalmingLoss,
    changes,
    critical_neurons,
    recorded,
    stages_of,
)
from clipmend.methods.repairs.invertune import InverTune, target_of
from clipmend.methods.repairs.trigger_inversion import (
    Inversion,
    Target,
    Weights,
    structural_similarity,
)
from clipmend.metrics.scores import Scores
from clipmend.model.clip import Clip, embed_images, embed_texts
from clipmend.model.fit import Batch, Schedule, Task, fit


@pytest.fixture(scope="module")
def pairs(tiny_pairs: Pairs) -> Pairs:
    return tiny_pairs.take(torch.arange(32))


@pytest.fixture(scope="module")
def victim(tiny_model: Callable[[str, int], Clip]) -> Clip:
    return tiny_model("resnet", 0)


def batch_of(model: Clip, pairs: Pairs) -> Batch:
    return Batch(torch.arange(len(pairs)), pairs.images[:], model.tokenize(pairs.captions))


def test_the_similarity_is_that_of_scikit_image() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 3, 16, 16, generator=generator)
    others = (images + 0.3 * torch.rand(images.shape, generator=generator)).clamp(0, 1)
    expected = [
        reference_similarity(  # type: ignore[no-untyped-call]
            a.numpy(), b.numpy(), channel_axis=0, data_range=1, use_sample_covariance=False
        )
        for a, b in zip(images, others, strict=True)
    ]
    computed = float(structural_similarity(images, others))
    assert computed == pytest.approx(sum(expected) / 3, abs=1e-4)
    assert float(structural_similarity(images, images)) == pytest.approx(1, abs=1e-6)


@torch.no_grad()
def test_the_inversion_weighs_four_terms(victim: Clip, pairs: Pairs) -> None:
    batch, start = batch_of(victim, pairs), torch.rand(2, 3, 32, 32)
    unit = F.normalize(torch.randn(2, victim.embed_dim), dim=1)
    images = batch.images.float() / 255
    mask = 0.1 * start[0]
    triggered = images * (1 - mask) + mask * start[1]
    embeds = victim.encode_image(triggered)
    texts = torch.cat([unit[:1], victim.encode_text(batch.tokens)])
    terms = (
        -(embeds @ texts.T / 0.07).log_softmax(dim=1)[:, 0].mean(),
        (embeds - unit[1]).norm(dim=1).mean(),
        1 - structural_similarity(triggered, images),
        mask.sum(),
    )
    weights = (5.0, 0.5, 1.0, 0.01)
    loss = Inversion(start, Target(unit[0], unit[1]), Weights(*weights))
    expected = sum(w * float(term) for w, term in zip(weights, terms, strict=True))
    assert float(loss(victim, batch, torch.Generator())) == pytest.approx(expected, rel=1e-4)
    without = Inversion(start, Target(unit[0], None), Weights(*weights))
    expected -= 0.5 * float(terms[1])
    assert float(without(victim, batch, torch.Generator())) == pytest.approx(expected, rel=1e-4)


def test_the_inversion_trains_the_trigger_and_not_the_model(victim: Clip, pairs: Pairs) -> None:
    had = {name: value.clone() for name, value in victim.net.state_dict().items()}
    target = target_of(victim, pairs.captions[:1], pairs.take(torch.tensor([0])))
    start = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    loss = Inversion(start, target, Weights(5.0, 0.5, 0.0, 0.0))
    schedule = Schedule(10, 16, 0.05, 0.0, 0.0, trainable=("-",), frozen_statistics=True)
    batch = batch_of(victim, pairs)
    with torch.no_grad():
        before = float(loss(victim, batch, torch.Generator()))
    fit(victim, Task(pairs, loss, schedule), torch.Generator().manual_seed(0))
    with torch.no_grad():
        after = float(loss(victim, batch, torch.Generator()))
    assert after < before - 0.03
    assert 0 <= float(loss.mask.detach().min()) <= float(loss.mask.detach().max()) <= 1
    for name, value in victim.net.state_dict().items():
        assert torch.equal(value, had[name]), name


def test_neurons_are_critical_where_two_clusters_part() -> None:
    change = torch.tensor([[0.1, 0.0, 5.0], [0.2, 4.0, 0.1]])
    expected = [[False, False, True], [False, True, False]]
    assert critical_neurons(change, seed=0).tolist() == expected
    assert critical_neurons(torch.zeros(2, 2), seed=0).all()


@torch.no_grad()
def test_the_change_of_a_stage_is_that_of_its_mean_activations(victim: Clip, pairs: Pairs) -> None:
    images = pairs.images[:].float() / 255
    triggered = images.clone()
    triggered[:, :, 20:28, 20:28] = 1.0
    stages, found = stages_of(victim), []
    for batch in (images, triggered):
        with recorded(stages) as outputs:
            victim.encode_image(batch)
        found.append([output.mean(dim=0) for output in outputs])
    for number, (change, share) in enumerate(changes(victim, images, triggered)):
        before, after = found[0][number], found[1][number]
        assert torch.allclose(change, (before - after).abs(), atol=1e-5)
        assert share == pytest.approx(float((before - after).norm() / before.norm()), rel=1e-3)
    assert not any(stage._forward_hooks for stage in stages)


def test_tuning_calms_the_critical_neurons_and_keeps_the_embeddings(
    victim: Clip, pairs: Pairs
) -> None:
    model = copy.deepcopy(victim)
    images = pairs.images[:].float() / 255
    triggered = images.clone()
    triggered[:, :, 20:28, 20:28] = torch.tensor([1.0, 0.0, 1.0])[:, None, None]
    had = embed_images(model, pairs.images)
    found = changes(model, images, triggered)
    masks = tuple(critical_neurons(found[number][0], seed=0) for number in (1, 3))
    loss = CalmingLoss((1, 3), masks, triggered, had, weight=0.5)
    with torch.no_grad():
        first = float(loss(model, batch_of(model, pairs), torch.Generator()))
        norms = 0.0
        with recorded([stages_of(model)[n] for n in (1, 3)]) as outputs:
            model.encode_image(images)
            model.encode_image(triggered)
        for number, mask in enumerate(masks):
            before, after = outputs[number] * mask, outputs[number + 2] * mask
            norms += float((before - after).norm() / before.norm())
    assert first == pytest.approx(norms, rel=1e-4)  # the victim itself has not drifted
    schedule = Schedule(15, 32, 3e-4, 0.0, 1e-4, frozen_statistics=True)
    fit(model, Task(pairs, loss, schedule), torch.Generator().manual_seed(0))
    with torch.no_grad():
        last = float(loss(model, batch_of(model, pairs), torch.Generator()))
    assert last < 0.8 * first
    assert float((embed_images(model, pairs.images) * had).sum(dim=1).mean()) > 0.8


def test_the_target_is_the_mean_of_captions_and_of_images(victim: Clip, pairs: Pairs) -> None:
    some = pairs.take(torch.arange(4))
    target = target_of(victim, some.captions, some)
    texts = embed_texts(victim, victim.tokenize(some.captions)).mean(dim=0)
    assert torch.allclose(target.text, texts / texts.norm(), atol=1e-6)
    images = embed_images(victim, some.images).mean(dim=0)
    assert target.image is not None
    assert torch.allclose(target.image, images / images.norm(), atol=1e-6)
    assert target_of(victim, some.captions, pairs.take(torch.arange(0))).image is None


def assets_of(victim: Clip, train: Pairs, trusted: Pairs) -> Assets:
    scores = Scores(torch.arange(len(train)).float(), torch.arange(len(train)))
    return Assets(victim, train=lambda: train, trusted=lambda: trusted, scores=lambda: scores)


def test_without_a_shared_word_the_model_is_unchanged(
    victim: Clip, pairs: Pairs, caplog: pytest.LogCaptureFixture
) -> None:
    assets = assets_of(victim, pairs, pairs)
    with caplog.at_level(logging.WARNING):
        assert list(InverTune(least_excess=1.0).tasks(assets, torch.Generator())) == []
    assert "the suspects of ubt share no word" in caplog.text


def test_trusted_captions_that_all_have_the_word_are_refused(victim: Clip, pairs: Pairs) -> None:
    same = replace(pairs, captions=("a thing",) * len(pairs))
    assets = assets_of(victim, same, same)
    with pytest.raises(TrainingError, match="0 of 32 trusted captions lack 'thing'"):
        next(InverTune(least_excess=0.0).tasks(assets, torch.Generator()))


def test_the_stages_of_a_transformer_are_quarters_of_its_blocks(
    tiny_model: Callable[[str, int], Clip], pairs: Pairs
) -> None:
    model = tiny_model("vit", 0)
    blocks = dict(model.net.named_modules())
    expected = [blocks[f"visual.transformer.resblocks.{number}"] for number in (1, 3, 5, 7)]
    assert list(stages_of(model)) == expected
    images = pairs.images[:4].float() / 255
    for change, share in changes(model, images, 1 - images):
        assert change.shape == (17, 32)  # 16 patches and the class token
        assert share > 0
    shallow = tiny_model("shallow", 0)
    with pytest.raises(ModelError, match="at least 4 blocks"):
        next(InverTune().tasks(assets_of(shallow, pairs, pairs), torch.Generator()))
