"""Random views of images and captions: what they change, and the same for the same seed."""

import torch

from clipmend.data.seeds import stream
from clipmend.model.views import autoaugment, eda, synonyms

CAPTIONS = ["a photo of a small red car"] * 64


def test_autoaugment_keeps_shape_and_bytes_and_changes_images() -> None:
    images = torch.randint(256, (16, 3, 32, 32), dtype=torch.uint8)
    views = autoaugment(images, stream(0, "views"))
    assert (views.shape, views.dtype) == (images.shape, torch.uint8)
    changed = (views != images).flatten(1).any(dim=1)
    assert changed.float().mean() > 0.5


def test_autoaugment_of_a_batch_is_that_of_each_image_alone() -> None:
    images = torch.randint(256, (64, 3, 32, 32), dtype=torch.uint8)
    for policy in ("imagenet", "cifar10", "svhn"):
        together = autoaugment(images, stream(2, "views"), policy=policy)
        generator = stream(2, "views")
        alone = [autoaugment(image[None], generator, policy=policy) for image in images]
        assert torch.equal(together, torch.cat(alone))


def test_views_depend_on_their_own_stream_alone() -> None:
    images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    state = torch.random.get_rng_state()
    first, second = (autoaugment(images, stream(1, "views")) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(state, torch.random.get_rng_state())
    assert eda(CAPTIONS, stream(1, "views")) == eda(CAPTIONS, stream(1, "views"))


def test_eda_replaces_inserts_swaps_and_deletes() -> None:
    original = CAPTIONS[0].split()
    lengths = {len(view.split()) - len(original) for view in eda(CAPTIONS, stream(0, "views"))}
    assert lengths == {-1, 0, 1}


def test_eda_inserts_synonyms_only() -> None:
    words = set(CAPTIONS[0].split())
    allowed = words | {synonym for word in words for synonym in synonyms().get(word, ())}
    assert {word for view in eda(CAPTIONS, stream(0, "views")) for word in view.split()} <= allowed
    assert all(word not in others for word, others in synonyms().items())


def test_eda_keeps_a_caption_of_one_word() -> None:
    assert eda(["banana"] * 8, stream(0, "views")) == ["banana"] * 8
