"""The losses have the values that their formulas give on small inputs."""

from math import log

import pytest
import torch
import torch.nn.functional as F

from clipmend.model.losses import mmcl_loss, one_way_loss, ssl_loss

SCALE = torch.tensor(10.0)


def test_mmcl_of_indistinguishable_pairs_is_the_logarithm_of_the_batch() -> None:
    same = F.normalize(torch.ones(8, 4), dim=-1)
    assert mmcl_loss(same, same, SCALE).item() == pytest.approx(log(8))


def test_mmcl_of_orthogonal_pairs_is_that_of_its_softmax() -> None:
    eye = torch.eye(4)
    expected = log(1 + 3 * torch.exp(-SCALE).item())
    assert mmcl_loss(eye, eye, SCALE).item() == pytest.approx(expected, rel=1e-3)


def test_mmcl_depends_neither_on_the_order_of_the_pairs_nor_of_the_modalities() -> None:
    images, texts = (F.normalize(torch.randn(6, 5), dim=-1) for _ in range(2))
    order = torch.randperm(6)
    expected = pytest.approx(mmcl_loss(images, texts, SCALE).item(), rel=1e-5)
    assert mmcl_loss(texts, images, SCALE).item() == expected
    assert mmcl_loss(images[order], texts[order], SCALE).item() == expected


def test_the_one_way_loss_compares_each_anchor_with_all_positives() -> None:
    anchors = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    positives = torch.eye(2)
    # Row 0 is nearest to its own positive, row 1 to that of row 0. The other direction has log 2.
    expected = (log(1 + torch.exp(-SCALE).item()) + log(1 + torch.exp(SCALE).item())) / 2
    assert one_way_loss(anchors, positives, SCALE).item() == pytest.approx(expected, rel=1e-4)
    assert one_way_loss(positives, anchors, SCALE).item() == pytest.approx(log(2))


def test_ssl_is_the_mean_over_the_two_modalities() -> None:
    eye, same = torch.eye(4), F.normalize(torch.ones(4, 4), dim=-1)
    expected = (one_way_loss(eye, eye, SCALE) + log(4)) / 2
    assert ssl_loss(eye, eye, same, same, SCALE).item() == pytest.approx(expected.item())
