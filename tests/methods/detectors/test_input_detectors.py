"""Detectors of inputs: what they compute, by other means, and triggers planted by hand."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import DBSCAN
from sklearn.decomposition import PCA

from clipmend.data.splits import Pairs, Vocabulary
from clipmend.errors import ParamsError
from clipmend.methods.detectors.backdoorids import BackdoorIDS, joined_at
from clipmend.methods.detectors.bdetclip import BDetCLIP, without
from clipmend.methods.detectors.strip import Strip
from clipmend.methods.detectors.subspace import Subspace, axes_of
from clipmend.methods.input_detection import Operation
from clipmend.model.clip import Clip

WORDS = ("cat", "dog", "bird")
SIZE = 8


class Means(Clip):
    """A model whose embeddings are known: an image's is its mean color, a text's its words'.

    A trigger, a white pixel in the lower right corner, makes an image's embedding that of "cat".
    """

    embed_dim = 4

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.eval()
        self.held = torch.eye(4)[0]

    def logit_scale(self) -> torch.Tensor:
        return torch.tensor(20.0)

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        colors = F.pad(images.float().mean(dim=(2, 3)) / 255, (0, 1), value=0.05)
        is_triggered = (images[:, :, -1, -1] > 150).all(dim=1)
        return F.normalize(torch.where(is_triggered[:, None], self.held, colors), dim=1)

    def encode_text(self, rows: torch.Tensor) -> torch.Tensor:
        return F.normalize(rows.float() + 1e-3, dim=1)

    def tokenize(self, texts: Any) -> torch.Tensor:
        counts = [[*(5 * t.split().count(w) for w in WORDS), len(t.split())] for t in texts]
        return torch.tensor(counts)


def images_of(count: int, seed: int = 0, *, triggered: bool = False) -> torch.Tensor:
    """Return images of one of three colors each: the classes."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 40, (count, 3, SIZE, SIZE), generator=generator)
    images[torch.arange(count), torch.arange(count) % 3] += 100
    if triggered:
        images[:, :, -1, -1] = 255
    return images.to(torch.uint8)


@pytest.fixture
def operation() -> Operation:
    captions = tuple(f"the {word} on a wall" for word in WORDS for _ in range(5))
    unknown = torch.full((len(captions),), -1)
    ids = tuple(map(str, range(len(captions))))
    images = images_of(len(captions), 7)
    trusted = Pairs(ids, images, captions, unknown, torch.zeros(len(captions), dtype=torch.bool))
    vocabulary = Vocabulary(WORDS, ("a {}", "one {}", "the {} here"), SIZE)
    return Operation(Means(), trusted, vocabulary)


def scores(detector: Any, operation: Operation, images: torch.Tensor) -> torch.Tensor:
    return detector.scorer(operation, torch.Generator().manual_seed(0))(images)


@pytest.mark.parametrize("detector", [Strip(), BDetCLIP(), Subspace(), BackdoorIDS(cells=4)])
def test_a_score_depends_on_the_image_alone(detector, operation) -> None:
    images = images_of(7)
    score = detector.scorer(operation, torch.Generator().manual_seed(0))
    whole = score(images)
    assert torch.isfinite(whole).all()
    alone = torch.cat([score(image[None]) for image in images.flip(0)]).flip(0)
    assert torch.allclose(whole, alone, atol=1e-5)


@pytest.mark.parametrize(
    "detector",
    [Strip(overlay_weight=0.4), Subspace(), BackdoorIDS(cells=8, ratios=12)],
    ids=lambda one: type(one).__name__,
)
def test_a_trigger_that_holds_the_embedding_scores_above_every_clean_image(
    detector, operation
) -> None:
    clean, triggered = images_of(30)[1::3], images_of(30, triggered=True)[1::3]  # of class "dog"
    of_clean, of_triggered = (scores(detector, operation, each) for each in (clean, triggered))
    assert of_triggered.min() > of_clean.max()


def test_strip_is_minus_the_mean_entropy_of_the_blends(operation) -> None:
    image, strip = images_of(1), Strip(overlays=4, overlay_weight=0.25)
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(operation.trusted), generator=generator)[:4]
    entropies = []
    for row in chosen.tolist():
        blend = 0.75 * image.float() + 0.25 * operation.trusted.images[row].float()
        embeds = operation.images(blend.round().to(torch.uint8))
        chances = (20 * embeds @ operation.class_embeds().T).softmax(dim=1)[0].double().numpy()
        entropies.append(-(chances * np.log(chances)).sum())
    assert scores(strip, operation, image).item() == pytest.approx(-np.mean(entropies), abs=1e-5)


def test_bdetclip_is_minus_the_sum_of_the_contrasts_of_all_classes(operation) -> None:
    # With one caption, no choice is left to chance.
    trusted = operation.trusted.take(torch.tensor([0]))
    single = replace(operation, trusted=replace(trusted, captions=("Cat, on a wall",)))
    image = images_of(1)
    embed, total = single.images(image)[0], 0.0
    for name in WORDS:
        benign = [prompt.format(name) for prompt in single.vocabulary.prompts]
        for sign, texts in ((1, benign), (-1, [f"{text} on a wall" for text in benign])):
            mean = single.texts(texts).mean(dim=0)
            total += sign * float(embed @ (mean / mean.norm()))
    assert scores(BDetCLIP(), single, image).item() == pytest.approx(-total, abs=1e-5)


def test_bdetclip_ranks_an_image_that_ignores_the_text_first(operation) -> None:
    ignored = torch.tensor([0.0, 0.0, 0.0, 1.0])  # the axis of the length of a text
    score = BDetCLIP().scorer(operation, torch.Generator().manual_seed(0))
    operation.model.held = ignored
    clean, triggered = images_of(30), images_of(30, triggered=True)
    assert score(triggered).min() > score(clean).max()


def test_a_caption_loses_the_names_of_classes_and_keeps_its_other_words() -> None:
    assert without("A small Dog, by the cat-house", {"dog", "cat"}) == "A small by the cat-house"


def test_bdetclip_refuses_fewer_than_three_prompts(operation) -> None:
    few = replace(operation, vocabulary=Vocabulary(WORDS, ("a {}", "the {}"), SIZE))
    with pytest.raises(ParamsError, match="at least 3 prompts of each class, and the corpus has 2"):
        scores(BDetCLIP(), few, images_of(1))


def test_the_axes_are_those_of_a_principal_component_analysis() -> None:
    texts = torch.randn(10, 6, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 7)
    for share in (0.5, 0.9, 0.99):
        ours = axes_of(texts, share)
        theirs = PCA(n_components=share).fit(texts.numpy()).components_
        assert ours.shape == theirs.shape
        assert np.allclose(np.abs((ours.numpy() * theirs).sum(axis=1)), 1, atol=1e-4)
    assert len(axes_of(torch.ones(3, 6), 0.95)) == 0


def test_the_region_lies_in_the_subspace_beyond_the_variants() -> None:
    generator = torch.Generator().manual_seed(0)
    text = torch.tensor([1.0, 0, 0, 0])
    variants = F.normalize(text + 0.3 * torch.randn(9, 4, generator=generator), dim=1)
    variants[:, 3] = 0
    texts = torch.cat([text[None], variants])
    region = Subspace(variance=1.0).region(texts, generator)
    assert region.shape == (15, 4)
    assert region[:, 3].abs().max() < 1e-5  # no text has this axis
    away = variants.mean(dim=0) - text
    steps = (region - text) @ away / away.square().sum()
    assert float(steps.min()) > 1.0
    assert float(steps.max()) < 2.0


def test_equal_variants_give_a_region_of_one_point() -> None:
    texts = torch.tensor([[0.6, 0.8]]).expand(4, 2)
    assert torch.equal(Subspace().region(texts, torch.Generator()), texts[:1].expand(15, 2))


def test_a_score_is_the_distance_from_which_on_dbscan_finds_one_cluster() -> None:
    path = torch.randn(10, 5, generator=torch.Generator().manual_seed(3)).cumsum(dim=0)
    limit = joined_at(path)
    for distance, clusters in ((limit * 0.999, 2), (limit * 1.001, 1)):
        found = DBSCAN(eps=distance, min_samples=1).fit_predict(path.numpy())
        assert len(set(found.tolist())) == clusters


def test_masks_grow_by_whole_cells_to_the_largest_ratio() -> None:
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    masks = BackdoorIDS(ratios=5, largest=0.5, cells=4).masks(order, 8, 12)
    shares = [float(mask.float().mean()) for mask in masks]
    assert shares == [0.0, 0.125, 0.25, 0.375, 0.5]
    for smaller, larger in pairwise(masks):
        assert (larger | ~smaller).all()
    cells = masks[3].view(4, 2, 4, 3).float().mean(dim=(1, 3))
    assert set(cells.unique().tolist()) == {0.0, 1.0}
