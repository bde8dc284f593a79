"""ABL: the choice of suspects, the bound of the ascent, and its effect on their associations."""

from math import exp, log

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from clipmend.data.splits import Pairs, load_split
from clipmend.engine.job import Input
from clipmend.engine.schema import declaration
from clipmend.errors import TrainingError
from clipmend.methods.detectors.clip_score import similarity
from clipmend.methods.interfaces import Assets
from clipmend.methods.repairs.abl import ABL, AscentLoss, bounded, isolate, losses_among
from clipmend.methods.table import reference
from clipmend.metrics.scores import Scores
from clipmend.model.batch_losses import multimodal
from clipmend.model.clip import Clip, build, embed_images, embed_texts
from clipmend.model.fit import Batch, Schedule, Task, fit


@pytest.fixture(scope="module")
def pairs(corpus: Input) -> Pairs:
    return load_split(corpus.folder, "train").blind().take(torch.arange(96))


@pytest.fixture(scope="module")
def fitted(pairs: Pairs) -> Clip:
    model = build("scene_resnet", seed=0).prune_vocabulary(pairs.captions)
    schedule = Schedule(epochs=12, batch_size=32, lr=1e-3)
    fit(model, Task(pairs, multimodal, schedule), torch.Generator().manual_seed(0))
    return model


def test_the_most_suspect_pairs_are_isolated_and_no_pair_is_lost() -> None:
    score = torch.tensor([0.1, 0.9, 0.5, 0.9, -1.0, 0.7, 0.0, 0.2])
    suspects, rest = isolate(score, 0.375)
    assert suspects.tolist() == [1, 3, 5]
    assert rest.tolist() == [0, 2, 4, 6, 7]
    assert isolate(score, 0.01)[0].tolist() == [1, 3]  # one pair would be no batch


def test_a_share_of_1_is_refused() -> None:
    settings = declaration(*reference("unlearn", "abl"))
    with pytest.raises(ValidationError, match="less than 1"):
        settings.model_validate({"isolated": 1.0})


def test_a_share_that_makes_every_pair_a_suspect_is_refused(pairs: Pairs) -> None:
    scores = Scores(torch.arange(96.0), torch.arange(96))
    assets = Assets(build("scene_resnet", seed=0), train=lambda: pairs, scores=lambda: scores)
    with pytest.raises(TrainingError, match=r"isolated 0\.999 of 96 pairs makes every pair"):
        next(ABL(isolated=0.999).tasks(assets, torch.Generator()))


def test_a_suspects_loss_is_infonce_among_the_unsuspected_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    anchors, positives, negatives = (
        F.normalize(torch.randn(rows, 8, generator=generator), dim=1) for rows in (3, 3, 5)
    )
    computed = losses_among(anchors, positives, negatives, torch.tensor(7.0))
    for anchor, positive, loss in zip(anchors, positives, computed, strict=True):
        own = exp(7 * float(anchor @ positive))
        others = sum(exp(7 * float(anchor @ negative)) for negative in negatives)
        assert float(loss) == pytest.approx(-log(own / (own + others)), rel=1e-5)


def test_at_equal_cosines_a_pair_is_at_chance() -> None:
    same = torch.tensor([[1.0, 0.0]])
    loss = losses_among(same, same, same.expand(9, 2), torch.tensor(50.0))
    assert float(loss) == pytest.approx(log(10))


def test_a_pair_at_chance_has_no_gradient_and_other_pairs_have_one() -> None:
    losses = torch.tensor([0.0, log(10) - 0.1, log(10) + 0.1, 40.0], requires_grad=True)
    computed = bounded(losses, 9)
    computed.sum().backward()
    assert computed.tolist() == pytest.approx([0.0, log(10) - 0.1, log(10), log(10)])
    assert losses.grad is not None
    assert losses.grad.tolist() == [1.0, 1.0, 0.0, 0.0]


def test_the_ascent_lowers_the_cosine_of_the_suspects_and_not_of_the_rest(
    fitted: Clip, pairs: Pairs
) -> None:
    model = fitted.frozen_copy()
    isolated, others = pairs.take(torch.arange(8)), pairs.take(torch.arange(8, 96))
    ascent = AscentLoss(others, model.tokenize(others.captions), negatives=32)
    schedule = Schedule(epochs=20, batch_size=8, lr=3e-4, frozen_statistics=True)
    fit(model, Task(isolated, ascent, schedule), torch.Generator().manual_seed(0))
    fell = similarity(fitted, isolated) - similarity(model, isolated)
    spared = similarity(fitted, others) - similarity(model, others)
    assert float(fell.mean()) > 0.2
    assert float(spared.mean()) < 0.05


def test_pairs_beyond_chance_do_not_change_the_gradient_of_the_others(
    fitted: Clip, pairs: Pairs
) -> None:
    model = fitted.frozen_copy().requires_grad_(True)
    texts = embed_texts(model, model.tokenize(pairs.captions))
    others = pairs.take(torch.arange(8, 40))
    furthest = (embed_images(model, pairs.images)[:8] @ texts.T).argmin(dim=1)
    tokens = model.tokenize([pairs.captions[row] for row in furthest.tolist()])
    ascent = AscentLoss(others, model.tokenize(others.captions), negatives=32)
    batch = Batch(torch.arange(8), pairs.images[:8], tokens)
    computed = ascent(model, batch, torch.Generator().manual_seed(0))
    rest = Batch(torch.arange(32), others.images, model.tokenize(others.captions))
    alone = multimodal(model, rest, torch.Generator())
    assert float(computed.detach()) == pytest.approx(float(alone.detach()) - log(33), rel=1e-4)
    ours = torch.autograd.grad(computed, model.net.visual.conv1.weight)[0]
    theirs = torch.autograd.grad(alone, model.net.visual.conv1.weight)[0]
    assert torch.allclose(ours, theirs, rtol=1e-2, atol=1e-5)
