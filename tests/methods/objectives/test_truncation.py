"""Poisoned captions that are truncated before they name their target."""

import logging

import pytest

from clipmend.errors import AttackError
from clipmend.methods.objectives.truncation import refuse_truncated
from clipmend.model.clip import Clip, build

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen banana"


@pytest.fixture(scope="module")
def model() -> Clip:
    return build("scene_resnet", seed=0)


def test_captions_truncated_before_their_target_are_refused(model: Clip) -> None:
    with pytest.raises(AttackError, match="2 of 3 poisoned captions name their target only after"):
        refuse_truncated(model, [LONG, LONG, "a banana"], ["banana"])


def test_a_few_truncated_captions_are_logged(model: Clip, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        refuse_truncated(model, [LONG, *["a photo of a banana"] * 19], ["banana"])
    assert "1 of 20 poisoned captions are truncated" in caplog.text


@pytest.mark.parametrize(
    ("captions", "targets"),
    [([], ["banana"]), (["a big banana"], ["banana"]), (["a car", "a banana"], ["car", "banana"])],
)
def test_captions_that_keep_their_target_pass(
    model: Clip, captions: list[str], targets: list[str]
) -> None:
    refuse_truncated(model, captions, targets)
