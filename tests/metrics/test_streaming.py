"""Streamed embeddings: the same bits for every size of block, and bounded memory."""

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from clipmend.data.seeds import stream
from clipmend.methods.table import create
from clipmend.metrics import neighbors
from clipmend.metrics.neighbors import (
    Reference,
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
def embeds() -> Tensor:
    points = torch.randn(N, DIM, generator=stream(0, "test"))
    points[100:200] = points[100] + 1e-5 * points[100:200]  # so near that rounding decides
    return torch.nn.functional.normalize(points, dim=1)


def scores_of(method: Any, blocks: Iterable[Tensor], reference: Reference, *seed: int) -> Tensor:
    return torch.cat(list(method.scores(iter(blocks), reference, *seed)))


@pytest.mark.parametrize("size", [500, N])
@pytest.mark.parametrize("detector", [*LOCAL, "isolation_forest"])
def test_scores_do_not_depend_on_the_blocks(embeds, detector, size) -> None:
    is_forest = detector == "isolation_forest"
    method = create("detect", detector, {"trees": 10} if is_forest else {"neighbors": K})
    reference = reference_of(embeds, size, stream(1, "reference"))
    seed = (3,) if is_forest else ()
    expected = scores_of(method, [embeds], reference, *seed)
    for block in (7, 333, 1024, 2000):
        if not is_forest or block == 333:  # the forest is slow
            assert torch.equal(scores_of(method, embeds.split(block), reference, *seed), expected)


def test_the_reference_does_not_depend_on_the_blocks(embeds) -> None:
    rows = reference_rows(N, 500, stream(1, "reference"))
    assert len(rows.unique()) == 500
    for block in (1, 333, N):
        reference = collected(iter(embeds.split(block)), rows)
        assert torch.equal(reference.embeds, embeds[rows])


def test_uneven_blocks_become_even_blocks_of_the_same_rows() -> None:
    rows = torch.arange(23)
    for sizes in ([23], [1] * 23, [0, 9, 0, 14], [10, 10, 3]):
        blocks = list(evenly(iter(rows.split(sizes)), 5))
        assert [len(block) for block in blocks] == [5, 5, 5, 5, 3]
        assert torch.equal(torch.cat(blocks), rows)
    assert list(evenly(iter([]), 5)) == []


def test_the_neighbors_for_a_smaller_k_are_the_first_ones(embeds) -> None:
    reference = reference_of(embeds[:100], 60, stream(1, "reference"))
    (more,) = neighborhoods([embeds[200:300]], reference, 20)
    (less,) = neighborhoods([embeds[200:300]], reference, K)
    for near, expected in ((more.first(K).own, less.own), (more.first(K).around, less.around)):
        assert torch.equal(near.index, expected.index)
        assert torch.equal(near.distance, expected.distance)


def test_the_first_scores_need_only_the_first_blocks(embeds) -> None:
    sizes = []

    def blocks() -> Iterator[Tensor]:
        for block in embeds.split(1000):
            sizes.append(len(block))
            yield block

    scores = create("detect", "dao", {"neighbors": K}).scores(
        blocks(), reference_of(embeds, 100, stream(1, "reference"))
    )
    assert len(next(scores)) == 1024
    assert sum(sizes) == 2000


@pytest.mark.parametrize("detector", LOCAL)
def test_scores_keep_no_other_tensor_in_memory(embeds, detector) -> None:
    reference = reference_of(embeds, 100, stream(1, "reference"))
    for score in create("detect", detector, {"neighbors": K}).scores([embeds], reference):
        assert score.untyped_storage().nbytes() == 4 * len(score)


class LargestTensor(TorchDispatchMode):
    """Record the number of values of the largest tensor that an operation returns."""

    values = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor):
                self.values = max(self.values, tensor.numel())
        return result


def largest(samples: int) -> int:
    block = torch.nn.functional.normalize(torch.randn(512, 8, generator=stream(2, "x")), dim=1)
    reference = reference_of(block, 64, stream(1, "reference"))
    method = create("detect", "dao", {"neighbors": K})
    with LargestTensor() as tensors:
        for _ in method.scores((block.clone() for _ in range(samples // 512)), reference):
            pass
    return tensors.values


def test_no_tensor_grows_with_the_number_of_samples() -> None:
    assert largest(20480) == largest(2048)


def test_a_larger_reference_is_compared_with_fewer_queries_at_once(embeds, monkeypatch) -> None:
    reference = reference_of(embeds, N, stream(1, "reference"))
    expected = nearest(embeds, torch.arange(N), reference, K)
    monkeypatch.setattr(neighbors, "_CELLS", 10 * N)
    blocks = neighborhoods([embeds[:25]], reference, K)
    assert [len(block.own.index) for block in blocks] == [10, 10, 5]
    fewer = nearest(embeds[300:], torch.arange(300, N), reference, K)
    assert torch.equal(fewer.index, expected.index[300:])
