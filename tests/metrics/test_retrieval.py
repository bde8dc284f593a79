"""Recall of captions and images: closed form, and by brute force."""

import pytest
import torch

from clipmend.metrics.retrieval import retrieval


def recalls(cosines, caption):
    return {name: one.number.value for name, one in retrieval(cosines, caption).items()}


def test_equal_captions_are_one_and_any_of_their_images_counts() -> None:
    # Images 0 and 1 have caption 0, image 2 has caption 1.
    cosines = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.7, 0.3]])
    found = recalls(cosines, torch.tensor([0, 0, 1]))
    assert found["image_to_text_recall_1"] == pytest.approx(1 / 3)  # image 1 alone
    assert found["text_to_image_recall_1"] == 0.5  # caption 0 finds image 1, caption 1 image 0
    assert found["image_to_text_recall_5"] == found["text_to_image_recall_5"] == 1.0


def test_the_recalls_are_those_of_sorted_lists() -> None:
    generator = torch.Generator().manual_seed(0)
    cosines, caption = torch.randn(60, 20, generator=generator), torch.arange(60) % 20
    found = recalls(cosines, caption)
    for count in (1, 5):
        texts = [sorted(range(20), key=lambda c: -cosines[i, c])[:count] for i in range(60)]
        hits = [int(caption[i]) in texts[i] for i in range(60)]
        assert found[f"image_to_text_recall_{count}"] == pytest.approx(sum(hits) / 60)
        images = [sorted(range(60), key=lambda i: -cosines[i, c])[:count] for c in range(20)]
        hits = [any(int(caption[i]) == c for i in images[c]) for c in range(20)]
        assert found[f"text_to_image_recall_{count}"] == pytest.approx(sum(hits) / 20)
