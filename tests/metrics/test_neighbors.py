"""Neighbors and local statistics, against slow textbook versions."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from clipmend.data.seeds import stream
from clipmend.metrics import neighbors
from clipmend.metrics.neighbors import Reference, intrinsic_dimension, nearest, reference_of

N, DIM, K = 60, 8, 5


@pytest.fixture
def embeds() -> torch.Tensor:
    drawn = torch.randn(N, DIM, generator=stream(0, "test"))
    return torch.nn.functional.normalize(drawn, dim=1)


def everything(embeds: torch.Tensor) -> Reference:
    return reference_of(embeds, len(embeds), stream(0, "reference"))


def test_neighbors_are_those_of_scikit_learn_without_oneself(embeds: torch.Tensor) -> None:
    found = nearest(embeds, torch.arange(N), everything(embeds), K)
    known = NearestNeighbors(n_neighbors=K + 1).fit(embeds.numpy())
    distance, index = known.kneighbors(embeds.numpy())
    assert (found.index.numpy() == index[:, 1:]).all()
    assert np.allclose(found.distance.numpy(), distance[:, 1:], atol=1e-4)


def test_blocks_change_nothing(embeds: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = nearest(embeds, torch.arange(N), everything(embeds), K)
    monkeypatch.setattr(neighbors, "_BLOCK", 7)
    blocks = nearest(embeds, torch.arange(N), everything(embeds), K)
    assert torch.equal(whole.index, blocks.index)


def test_a_reference_set_leaves_out_the_query_only_where_it_holds_it(embeds: torch.Tensor) -> None:
    reference = reference_of(embeds, 20, stream(1, "reference"))
    assert len(reference.rows) == 20
    assert torch.equal(embeds[reference.rows], reference.embeds)
    found = nearest(embeds, torch.arange(N), reference, K)
    for row in range(N):
        others = [r for r in reference.rows.tolist() if r != row]
        distances = (embeds[row] - embeds[others]).norm(dim=1)
        assert torch.allclose(found.distance[row], distances.sort().values[:K], atol=1e-4)
        assert row not in reference.rows[found.index[row]].tolist()


def test_there_are_never_more_neighbors_than_others(embeds: torch.Tensor) -> None:
    assert nearest(embeds, torch.arange(N), everything(embeds), 500).index.shape == (N, N - 1)


def test_distances_of_near_duplicates_are_exact() -> None:
    close = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 1e-4], [1.0, 3e-4]]))
    found = nearest(close, torch.arange(3), everything(close), 2)
    assert found.distance[0].tolist() == pytest.approx([1e-4, 3e-4], rel=1e-3)


def test_duplicates_have_the_least_dimension_that_the_published_code_can_give() -> None:
    same = torch.nn.functional.normalize(torch.ones(6, 3), dim=1)
    found = nearest(same, torch.arange(6), everything(same), 3)
    published = -3 / (3 * np.log(0 + 1e-4))  # with the fourth at any distance
    assert intrinsic_dimension(found.distance).tolist() == pytest.approx([published] * 6)


def test_one_neighbor_elsewhere_leaves_the_dimension_as_it_is_defined() -> None:
    distance = torch.tensor([[neighbors.LEAST, neighbors.LEAST, 0.5]])
    defined = -1 / (distance / 0.5).log().mean(dim=1)
    assert torch.equal(intrinsic_dimension(distance), defined)


def test_the_dimension_is_the_textbook_s(embeds: torch.Tensor) -> None:
    distance = nearest(embeds, torch.arange(N), everything(embeds), K).distance
    for row in range(N):
        radii = distance[row].double().tolist()
        textbook = -1 / (sum(np.log(r / radii[-1]) for r in radii) / K)
        assert float(intrinsic_dimension(distance)[row]) == pytest.approx(textbook, rel=1e-4)


def test_a_plane_has_two_dimensions() -> None:
    angles = 0.05 * torch.randn(4000, 2, generator=stream(3, "test"))
    patch = torch.nn.functional.normalize(torch.cat([torch.ones(4000, 1), angles], dim=1), dim=1)
    found = nearest(patch, torch.arange(4000), everything(patch), 100)
    assert intrinsic_dimension(found.distance).median() == pytest.approx(2, abs=0.2)
