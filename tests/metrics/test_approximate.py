"""The approximate search over all pairs: against the exact one, and what it says of itself."""

import sys
from collections.abc import Callable, Iterator

import pytest
import torch

from clipmend.data.seeds import stream
from clipmend.errors import ParamsError
from clipmend.metrics.approximate import index_of, nearest_of_all, recall
from clipmend.metrics.neighbors import LEAST, Neighbors, Reference, nearest

N, DIM, K = 2000, 16, 8


@pytest.fixture(scope="module")
def embeds() -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(N, DIM, generator=stream(0, "t")), dim=1)


def exact(embeds: torch.Tensor) -> Neighbors:
    rows = torch.arange(len(embeds))
    return nearest(embeds, rows, Reference(embeds, rows), K)


def found(embeds: torch.Tensor, probes: int) -> Neighbors:
    pytest.importorskip("faiss", reason="the extra `ann` is not installed")
    return nearest_of_all(index_of(embeds, stream(1, "index")), embeds, K, probes=probes)


def test_all_cells_hold_the_exact_neighbors(embeds: torch.Tensor) -> None:
    everywhere, wanted = found(embeds, N), exact(embeds)
    assert (everywhere.index == wanted.index).float().mean() > 0.999  # but for ties
    assert torch.allclose(everywhere.distance, wanted.distance, rtol=1e-4)
    assert recall(everywhere, embeds, stream(2, "recall")) == 1


def test_recall_is_the_share_of_true_neighbors(embeds: torch.Tensor) -> None:
    few, wanted = found(embeds, 1), exact(embeds)
    share = sum(
        len(set(a) & set(b)) / K
        for a, b in zip(few.index.tolist(), wanted.index.tolist(), strict=True)
    )
    assert recall(few, embeds, stream(2, "recall"), queries=N) == pytest.approx(share / N, abs=1e-3)
    assert 0.1 < share / N < 0.9
    assert recall(few, embeds, stream(2, "recall"), queries=500) == pytest.approx(
        share / N, abs=0.1
    )


def test_more_probes_find_more(embeds: torch.Tensor) -> None:
    shares = [recall(found(embeds, probes), embeds, stream(2, "recall")) for probes in (1, 4, 16)]
    assert shares == sorted(set(shares))


def test_recall_counts_a_far_point_as_a_miss(embeds: torch.Tensor) -> None:
    right = exact(embeds)
    distance = right.distance.clone()
    distance[:, -2:] = 2
    half = recall(Neighbors(distance, right.index), embeds, stream(2, "recall"))
    assert half == pytest.approx(1 - 2 / K)


def test_nobody_is_their_own_neighbor_and_everybody_has_k(embeds: torch.Tensor) -> None:
    same = embeds.clone()
    same[:50] = same[0]  # a cell of more duplicates than are asked for
    near = found(same, 1)
    assert near.index.shape == (N, K)
    assert (near.index != torch.arange(N)[:, None]).all()
    assert (near.index >= 0).all()
    assert near.distance.isfinite().all()
    assert near.distance[:50].allclose(torch.tensor(LEAST))


def test_cells_that_hold_too_few_are_not_all_that_is_searched() -> None:
    apart = torch.nn.functional.normalize(torch.randn(120, DIM, generator=stream(3, "t")), dim=1)
    alone = torch.zeros(2, DIM)
    alone[:, 0], alone[1, 1] = 1, 1e-3
    both = torch.cat([-alone, apart.abs()])
    near = found(torch.nn.functional.normalize(both, dim=1), 1)
    assert (near.index >= 0).all()
    assert near.distance.isfinite().all()


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of threads, torch's and so faiss's, for one test.

    What they call is one function for the whole process where the two share a runtime: a number
    left behind would change the bytes of every later training.
    """
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("number", [1, 2])
def test_the_seed_decides(
    embeds: torch.Tensor, number: int, threads: Callable[[int], None]
) -> None:
    once = found(embeds, 2)
    threads(number)
    again = found(embeds, 2)
    assert torch.get_num_threads() == number
    assert torch.equal(once.index, again.index)
    assert torch.equal(once.distance, again.distance)


def test_without_faiss_one_line_says_what_to_do(
    embeds: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(
        ParamsError, match=r"faiss, which is not installed.*clipmend\[ann\]"
    ) as told:
        index_of(embeds, stream(1, "index"))
    assert "\n" not in str(told.value)
