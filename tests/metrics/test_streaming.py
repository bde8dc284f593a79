"""Streams of embeddings: the same bits whatever the blocks, and memory that no sample adds to."""

from collections.abc import Iterator

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from clipmend.data.seeds import stream
from clipmend.methods.table import create
from clipmend.metrics import neighbors
from clipmend.metrics.neighbors import (
    collected,
    evenly,
    nearest,
    neighborhoods,
    reference_of,
    reference_rows,
)

N, DIM, K = 3000, 24, 8
LOCAL = ["k_distance", "slof", "lid", "dao"]


@pytest.fixture(scope="module")
def embeds() -> torch.Tensor:
    drawn = torch.randn(N, DIM, generator=stream(0, "test"))
    drawn[100:200] = drawn[100] + 1e-5 * drawn[100:200]  # where rounding decides
    return torch.nn.functional.normalize(drawn, dim=1)


@pytest.mark.parametrize("detector", LOCAL)
@pytest.mark.parametrize("size", [500, N])
def test_scores_do_not_depend_on_the_blocks(embeds: torch.Tensor, detector: str, size: int) -> None:
    method = create("detect", detector, {"neighbors": K})
    reference = reference_of(embeds, size, stream(1, "reference"))
    whole = torch.cat(list(method.scores([embeds], reference)))
    for block in (7, 333, 1024, 2000):
        scores = torch.cat(list(method.scores(iter(embeds.split(block)), reference)))
        assert torch.equal(scores, whole)


def test_the_forest_s_scores_do_not_depend_on_the_blocks(embeds: torch.Tensor) -> None:
    method = create("detect", "isolation_forest", {"trees": 10})
    reference = reference_of(embeds, 500, stream(1, "reference"))
    whole = torch.cat(list(method.scores([embeds], reference, 3)))
    blocks = torch.cat(list(method.scores(iter(embeds.split(333)), reference, 3)))
    assert torch.equal(blocks, whole)


def test_the_reference_does_not_depend_on_the_blocks(embeds: torch.Tensor) -> None:
    rows = reference_rows(N, 500, stream(1, "reference"))
    assert len(rows.unique()) == 500
    for block in (1, 333, N):
        reference = collected(iter(embeds.split(block)), rows)
        assert torch.equal(reference.embeds, embeds[rows])


def test_rows_are_cut_anew_and_none_is_lost() -> None:
    rows = torch.arange(23)
    for sizes in ([23], [1] * 23, [0, 9, 0, 14], [10, 10, 3]):
        blocks = list(evenly(iter(rows.split(sizes)), 5))
        assert [len(block) for block in blocks] == [5, 5, 5, 5, 3]
        assert torch.equal(torch.cat(blocks), rows)
    assert list(evenly(iter([]), 5)) == []


def test_one_search_serves_a_smaller_k(embeds: torch.Tensor) -> None:
    reference = reference_of(embeds[:100], 60, stream(1, "reference"))
    (more,) = neighborhoods([embeds[200:300]], reference, 20)
    (less,) = neighborhoods([embeds[200:300]], reference, K)
    for found, wanted in ((more.first(K).own, less.own), (more.first(K).around, less.around)):
        assert torch.equal(found.index, wanted.index)
        assert torch.equal(found.distance, wanted.distance)


def test_scores_leave_before_all_embeddings_have_come(embeds: torch.Tensor) -> None:
    come = []

    def blocks() -> Iterator[torch.Tensor]:
        for block in embeds.split(1000):
            come.append(len(block))
            yield block

    scores = create("detect", "dao", {"neighbors": K}).scores(
        blocks(), reference_of(embeds, 100, stream(1, "reference"))
    )
    assert len(next(scores)) == 1024
    assert sum(come) == 2000


@pytest.mark.parametrize("detector", LOCAL)
def test_a_block_s_scores_keep_nothing_else_in_memory(embeds: torch.Tensor, detector: str) -> None:
    reference = reference_of(embeds, 100, stream(1, "reference"))
    for score in create("detect", detector, {"neighbors": K}).scores([embeds], reference):
        assert score.untyped_storage().nbytes() == 4 * len(score)


class _Largest(TorchDispatchMode):
    """Notes how many values the largest tensor has that any operation makes."""

    values = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.values = max(self.values, tensor.numel())
        return made


def _largest(samples: int) -> int:
    block = torch.nn.functional.normalize(torch.randn(512, 8, generator=stream(2, "x")), dim=1)
    reference = reference_of(block, 64, stream(1, "reference"))
    method = create("detect", "dao", {"neighbors": K})
    with _Largest() as largest:
        for _ in method.scores((block.clone() for _ in range(samples // 512)), reference):
            pass
    return largest.values


def test_no_tensor_grows_with_the_samples() -> None:
    assert _largest(20480) == _largest(2048)


def test_a_larger_reference_meets_fewer_queries_at_once(
    embeds: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = reference_of(embeds, N, stream(1, "reference"))
    whole = nearest(embeds, torch.arange(N), reference, K)
    monkeypatch.setattr(neighbors, "_CELLS", 10 * N)
    assert [len(near.own.index) for near in neighborhoods([embeds[:25]], reference, K)] == [
        10,
        10,
        5,
    ]
    fewer = nearest(embeds[300:], torch.arange(300, N), reference, K)
    assert torch.equal(fewer.index, whole.index[300:])
