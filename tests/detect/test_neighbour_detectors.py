"""k-distance, SLOF, LID and DAO, against their definitions written out slowly."""

from typing import Any

import pytest
import torch

from clipmend.clip.fit import Hooks
from clipmend.clip.model import embed_images, load
from clipmend.corpus.splits import load_split
from clipmend.detect.detector import Victim
from clipmend.job import Input
from clipmend.methods import create
from clipmend.seeds import stream

K = 8


class Slow:
    """Definitions over all pairs, one at a time."""

    def __init__(self, embeds: torch.Tensor) -> None:
        self.distance = torch.cdist(embeds.double(), embeds.double())
        self.distance.fill_diagonal_(torch.inf)

    def near(self, row: int) -> list[int]:
        return self.distance[row].argsort()[:K].tolist()

    def radius(self, row: int) -> float:
        return float(self.distance[row].sort().values[K - 1])

    def lid(self, row: int) -> float:
        radii = self.distance[row].sort().values[:K]
        return float(-1 / (radii / radii[-1]).log().mean())

    def slof(self, row: int) -> float:
        return sum(self.radius(row) / self.radius(other) for other in self.near(row)) / K

    def dao(self, row: int) -> float:
        ratios = torch.tensor([self.radius(row) / self.radius(o) for o in self.near(row)])
        return float((torch.tensor([self.lid(o) for o in self.near(row)]) * ratios.log()).mean())


@pytest.mark.parametrize(
    ("detector", "definition"),
    [("k_distance", Slow.radius), ("slof", Slow.slof), ("lid", Slow.lid), ("dao", Slow.dao)],
)
def test_a_score_is_its_definition(
    corpus: Input, victim: Input, detector: str, definition: Any
) -> None:
    model = load(victim.folder)
    train = load_split(corpus.folder, "train").take(torch.arange(100))
    method = create("detect", detector, {"neighbours": K})
    found = method(Victim(model, model), train, stream(0, "detect"), Hooks())
    slow = Slow(embed_images(model, train.images))
    expected = torch.tensor([definition(slow, row) for row in range(100)])
    assert torch.allclose(found.score, expected.float(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("detector", ["k_distance", "slof", "dao"])
def test_an_image_far_from_all_others_is_the_most_suspect(
    corpus: Input, victim: Input, detector: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = load_split(corpus.folder, "train").take(torch.arange(50))
    gathered = torch.randn(50, 16, generator=stream(0, "test")) * 0.1
    gathered[:, 0] += 1
    gathered[7] = -gathered[7]
    embeds = torch.nn.functional.normalize(gathered, dim=1)
    module = "clipmend.detect.local.embed_images"
    monkeypatch.setattr(module, lambda *_: embeds)
    model = load(victim.folder)
    method = create("detect", detector, {"neighbours": K})
    found = method(Victim(model, model), train, stream(0, "detect"), Hooks())
    assert int(found.score.argmax()) == 7
