"""Neighbors and local statistics agree with slow versions from the textbook."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from clipmend.data.seeds import stream
from clipmend.metrics import neighbors
from clipmend.metrics.neighbors import Reference, intrinsic_dimension, nearest, reference_of

N, DIM, K = 60, 8, 5


@pytest.fixture
def embeds() -> Tensor:
    return torch.nn.functional.normalize(torch.randn(N, DIM, generator=stream(0, "test")), dim=1)


def everything(embeds: Tensor) -> Reference:
    return reference_of(embeds, len(embeds), stream(0, "reference"))


def test_neighbors_are_those_of_scikit_learn_without_the_point_itself(embeds) -> None:
    near = nearest(embeds, torch.arange(N), everything(embeds), K)
    reference = NearestNeighbors(n_neighbors=K + 1).fit(embeds.numpy())
    distance, index = reference.kneighbors(embeds.numpy())
    assert (near.index.numpy() == index[:, 1:]).all()
    assert np.allclose(near.distance.numpy(), distance[:, 1:], atol=1e-4)


def test_a_point_of_the_reference_is_not_its_own_neighbor(embeds) -> None:
    reference = reference_of(embeds, 20, stream(1, "reference"))
    assert len(reference.rows) == 20
    assert torch.equal(embeds[reference.rows], reference.embeds)
    near = nearest(embeds, torch.arange(N), reference, K)
    for row in range(N):
        others = [r for r in reference.rows.tolist() if r != row]
        distances = (embeds[row] - embeds[others]).norm(dim=1)
        assert torch.allclose(near.distance[row], distances.sort().values[:K], atol=1e-4)
        assert row not in reference.rows[near.index[row]].tolist()


def test_k_is_limited_to_the_number_of_other_points(embeds) -> None:
    assert nearest(embeds, torch.arange(N), everything(embeds), 500).index.shape == (N, N - 1)


def test_distances_of_near_duplicates_are_exact() -> None:
    close = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 1e-4], [1.0, 3e-4]]))
    near = nearest(close, torch.arange(3), everything(close), 2)
    assert near.distance[0].tolist() == pytest.approx([1e-4, 3e-4], rel=1e-3)


def test_duplicates_have_the_smallest_dimension_of_the_published_code() -> None:
    same = torch.nn.functional.normalize(torch.ones(6, 3), dim=1)
    near = nearest(same, torch.arange(6), everything(same), 3)
    published = -3 / (3 * np.log(0 + 1e-4))  # whatever the distance of the fourth point
    assert intrinsic_dimension(near.distance).tolist() == pytest.approx([published] * 6)


def test_a_single_distinct_neighbor_gives_the_defined_dimension() -> None:
    distance = torch.tensor([[neighbors.LEAST, neighbors.LEAST, 0.5]])
    defined = -1 / (distance / 0.5).log().mean(dim=1)
    assert torch.equal(intrinsic_dimension(distance), defined)


def test_the_dimension_is_that_of_the_textbook(embeds) -> None:
    distance = nearest(embeds, torch.arange(N), everything(embeds), K).distance
    for row in range(N):
        radii = distance[row].double().tolist()
        textbook = -1 / (sum(np.log(r / radii[-1]) for r in radii) / K)
        assert float(intrinsic_dimension(distance)[row]) == pytest.approx(textbook, rel=1e-4)


def test_a_plane_has_two_dimensions() -> None:
    angles = 0.05 * torch.randn(4000, 2, generator=stream(3, "test"))
    patch = torch.nn.functional.normalize(torch.cat([torch.ones(4000, 1), angles], dim=1), dim=1)
    near = nearest(patch, torch.arange(4000), everything(patch), 100)
    assert intrinsic_dimension(near.distance).median() == pytest.approx(2, abs=0.2)
