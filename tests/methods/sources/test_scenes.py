"""The source ``scenes``: the same settings draw the same pairs."""

from collections import Counter
from io import BytesIO

import pytest
from PIL import Image

from clipmend.data.pairs import SPLITS
from clipmend.methods.sources.scenes import Scenes

FEW = Scenes(train=60, trusted=20, val=20, test=20, image_size=16)


def test_another_seed_draws_other_pairs() -> None:
    other = Scenes(train=60, trusted=20, val=20, test=20, image_size=16, seed=1)
    assert not FEW.split("val").equals(other.split("val"))


def test_a_larger_split_begins_with_the_smaller_ones_rows() -> None:
    larger = Scenes(train=60, trusted=20, val=30, test=20, image_size=16)
    assert larger.split("val").slice(0, 20).equals(FEW.split("val"))


def test_splits_share_no_image() -> None:
    images = [image for split in SPLITS for image in FEW.split(split)["image"].to_pylist()]
    assert len(set(images)) == len(images)


def test_images_are_square_and_of_the_size_that_was_asked_for() -> None:
    for encoded in FEW.split("val")["image"].to_pylist():
        assert Image.open(BytesIO(encoded)).size == (16, 16)


@pytest.mark.parametrize("split", ["trusted", "val", "test"])
def test_captions_name_the_class_outside_of_train(split: str) -> None:
    assert all(row["label"] in row["caption"] for row in FEW.split(split).to_pylist())


def test_noise_gives_its_share_of_training_captions_to_other_images() -> None:
    quiet, noisy = (
        Scenes(train=100, image_size=16, noise=noise).split("train")["caption"].to_pylist()
        for noise in (0.0, 0.2)
    )
    assert Counter(quiet) == Counter(noisy)
    moved = sum(before != after for before, after in zip(quiet, noisy, strict=True))
    assert 0 < moved <= 20
