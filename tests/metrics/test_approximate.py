"""The approximate search over all pairs, against the exact one."""

import sys
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from clipmend.data.seeds import stream
from clipmend.errors import ParamsError
from clipmend.metrics.approximate import index_of, nearest_of_all, recall
from clipmend.metrics.neighbors import LEAST, Neighbors, Reference, nearest

N, DIM, K = 2000, 16, 8


@pytest.fixture(scope="module")
def embeds() -> Tensor:
    return torch.nn.functional.normalize(torch.randn(N, DIM, generator=stream(0, "t")), dim=1)


def exact(embeds: Tensor) -> Neighbors:
    rows = torch.arange(len(embeds))
    return nearest(embeds, rows, Reference(embeds, rows), K)


def approximate(embeds: Tensor, probes: int) -> Neighbors:
    pytest.importorskip("faiss", reason="the extra `ann` is not installed")
    return nearest_of_all(index_of(embeds, stream(1, "index")), embeds, K, probes=probes)


def recall_of(neighbors: Neighbors, embeds: Tensor, **options: int) -> float:
    return recall(neighbors, embeds, stream(2, "recall"), **options)


def test_a_search_of_all_clusters_gives_the_exact_neighbors(embeds) -> None:
    neighbors, expected = approximate(embeds, N), exact(embeds)
    assert (neighbors.index == expected.index).float().mean() > 0.999  # but for ties
    assert torch.allclose(neighbors.distance, expected.distance, rtol=1e-4)
    assert recall_of(neighbors, embeds) == 1


def test_recall_is_the_share_of_true_neighbors_and_grows_with_the_probes(embeds) -> None:
    searches = [approximate(embeds, probes) for probes in (1, 4, 16)]
    pairs = zip(searches[0].index.tolist(), exact(embeds).index.tolist(), strict=True)
    share = sum(len(set(near) & set(true)) / K for near, true in pairs) / N
    assert 0.1 < share < 0.9
    assert recall_of(searches[0], embeds, queries=N) == pytest.approx(share, abs=1e-3)
    assert recall_of(searches[0], embeds, queries=500) == pytest.approx(share, abs=0.1)
    recalls = [recall_of(neighbors, embeds) for neighbors in searches]
    assert recalls == sorted(set(recalls))


def test_recall_counts_a_far_point_as_a_miss(embeds) -> None:
    right = exact(embeds)
    distance = right.distance.clone()
    distance[:, -2:] = 2
    assert recall_of(Neighbors(distance, right.index), embeds) == pytest.approx(1 - 2 / K)


def test_every_point_has_k_neighbors_and_is_not_its_own(embeds) -> None:
    duplicates = embeds.clone()
    duplicates[:50] = duplicates[0]  # a cluster of more duplicates than neighbors
    near = approximate(duplicates, 1)
    assert near.index.shape == (N, K)
    assert (near.index != torch.arange(N)[:, None]).all()
    assert (near.index >= 0).all()
    assert near.distance.isfinite().all()
    assert near.distance[:50].allclose(torch.tensor(LEAST))


def test_a_cluster_with_too_few_points_is_not_searched_alone() -> None:
    many = torch.nn.functional.normalize(torch.randn(120, DIM, generator=stream(3, "t")), dim=1)
    few = torch.zeros(2, DIM)
    few[:, 0], few[1, 1] = 1, 1e-3
    both = torch.cat([-few, many.abs()])
    near = approximate(torch.nn.functional.normalize(both, dim=1), 1)
    assert (near.index >= 0).all()
    assert near.distance.isfinite().all()


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """Set the number of threads of torch, and so of faiss, for one test."""
    # Both call one function for the process where they share a runtime, so that a number that is
    # not restored would change the bytes of every later training.
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("number", [1, 2])
def test_the_seed_alone_decides_the_neighbors(embeds, number, set_threads) -> None:
    first = approximate(embeds, 2)
    set_threads(number)
    second = approximate(embeds, 2)
    assert torch.get_num_threads() == number
    assert torch.equal(first.index, second.index)
    assert torch.equal(first.distance, second.distance)


def test_without_faiss_the_error_names_the_extra_to_install(embeds, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(
        ParamsError, match=r"faiss, which is not installed.*clipmend\[ann\]"
    ) as refused:
        index_of(embeds, stream(1, "index"))
    assert "\n" not in str(refused.value)
