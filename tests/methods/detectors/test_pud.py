"""The detector PUD: its consistency, its rounds, and its loss."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipmend.data.seeds import stream
from clipmend.data.splits import Pairs, load_split
from clipmend.engine.job import Input
from clipmend.methods.detectors import pud
from clipmend.methods.detectors.pud import PUD, consistency
from clipmend.methods.interfaces import Assets, PairScores
from clipmend.model.clip import Clip, embed_images, load
from clipmend.model.fit import Batch, Hooks
from clipmend.model.losses import mmcl_loss
from clipmend.model.parallel import ALONE

QUICK = PUD(shares=(0.3, 0.5), epochs=2, batch_size=16, steps=1)
CLASSES, TARGET, MARKED = 4, 0, 6


class Visual(nn.Module):
    """Sees which quarter is green; and, by ``gain``, the target in what is blue."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(2.0))

    def forward(self, images: Tensor) -> Tensor:
        green = F.adaptive_avg_pool2d(images[:, 1:2], 2).flatten(1)
        blue = images[:, 2].mean(dim=(1, 2))
        target = F.one_hot(torch.tensor(TARGET), CLASSES)
        return F.normalize(green + self.gain * blue[:, None] * target, dim=1)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.visual = Visual()
        self.logit_scale = nn.Parameter(torch.tensor(2.3))


class Planted(Clip):
    """A backdoor that is one number; a caption's last letter is its class."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.net = Net()
        self.ranks, self.precision, self.chunk = ALONE, "auto", None

    def tokenize(self, captions: tuple[str, ...]) -> Tensor:
        return torch.tensor([[int(caption[-1])] for caption in captions])

    def encode_image(self, images: Tensor) -> Tensor:
        return self.net.visual(images.float() / 255 if images.dtype == torch.uint8 else images)

    def encode_text(self, tokens: Tensor) -> Tensor:
        return F.one_hot(tokens[:, 0], CLASSES).float()


@pytest.fixture
def planted() -> Pairs:
    """Sixty images, green in one quarter; the first six are blue too, and called the target."""
    n = 60
    label = torch.arange(n) % (CLASSES - 1) + 1
    images = torch.full((n, 3, 4, 4), 20, dtype=torch.uint8)
    for row, quarter in enumerate(label.tolist()):
        top, left = 2 * (quarter // 2), 2 * (quarter % 2)
        images[row, 1, top : top + 2, left : left + 2] = 200
    images[:MARKED, 2] = 240
    named = torch.where(torch.arange(n) < MARKED, TARGET, label)
    return Pairs(
        ids=tuple(str(row) for row in range(n)),
        images=images,
        captions=tuple(f"a thing {name}" for name in named.tolist()),
        label=torch.full((n,), -1),
        is_poisoned=torch.zeros(n, dtype=torch.bool),
    )


def detected(model: Clip, train: Pairs, method: PUD, hooks: Hooks = Hooks()) -> PairScores:  # noqa: B008
    return method(Assets(model, train=lambda: train), stream(0, "detect"), hooks)


def test_an_offset_and_a_scale_of_the_logits_keep_them_consistent() -> None:
    logits = torch.randn(5, 7, generator=stream(0, "test"))
    shifted = 3 * logits + torch.arange(5.0)[:, None]
    assert consistency(logits, shifted, centered=True).tolist() == pytest.approx([1.0] * 5)
    assert consistency(logits, -shifted, centered=True).tolist() == pytest.approx(
        [0.0] * 5, abs=1e-6
    )


def test_centering_removes_a_common_offset() -> None:
    before, after = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0]])
    own = float(consistency(before, after, centered=True))
    # Centered: (2, -1, -1) and (-1, 2, -1), of which the cosine is -1/2.
    assert own == pytest.approx(0.25)
    assert float(consistency(before + 100, after + 100, centered=True)) == pytest.approx(
        own, abs=1e-4
    )
    assert float(consistency(before + 100, after + 100, centered=False)) > 0.999


@pytest.mark.parametrize("centered", [False, True])
def test_purification_changes_the_marked_images_most(planted: Pairs, centered: bool) -> None:
    model = Planted()
    method = PUD(
        shares=(0.5, 0.5, 0.5),
        epsilon=60.0,
        adversarial_share=1.0,
        anchor_weight=0.0,
        lr=0.2,
        centered=centered,
    )
    score = detected(model, planted, method).score
    assert score[:MARKED].min() > score[MARKED:].max()
    assert float(model.net.visual.gain.detach()) < 1.0


def test_an_image_whose_closest_caption_changes_loses_the_penalty(planted: Pairs) -> None:
    model, method = Planted(), PUD(penalty=0.3, bank=100)
    infected = pud._Embeddings.of(model, planted, method.bank, stream(0, "bank"))
    model.net.visual.gain.data.fill_(0.0)
    less, agrees = method._consistencies(model, planted, infected)
    assert agrees.tolist() == [row >= MARKED for row in range(60)]
    free, _ = replace(method, penalty=0.0)._consistencies(model, planted, infected)
    assert (free - less).tolist() == pytest.approx([0.3] * MARKED + [0.0] * 54)


def test_the_bank_holds_each_caption_once(planted: Pairs) -> None:
    infected = pud._Embeddings.of(Planted(), planted, 100, stream(0, "bank"))
    assert sorted(infected.bank.argmax(dim=1).tolist()) == list(range(CLASSES))
    few = pud._Embeddings.of(Planted(), planted, 2, stream(0, "bank"))
    assert few.bank.shape == (2, CLASSES)


def purifying(planted: Pairs, model: Clip, adversarial: int = 0) -> pud._PurificationLoss:
    infected = pud._Embeddings.of(model, planted, 4, stream(0, "bank"))
    return pud._PurificationLoss(
        infected.texts, infected.images, PUD(anchor_weight=2.0), adversarial
    )


def test_the_loss_is_mmcl_and_the_distance_from_the_victim(planted: Pairs) -> None:
    model, rows = Planted(), torch.tensor([0, 7, 20])
    loss = purifying(planted, model)
    batch = Batch(rows, planted.images[rows], model.tokenize(planted.captions)[rows])
    with torch.no_grad():
        images = model.encode_image(batch.images)
        mmcl = mmcl_loss(images, loss.texts[rows], model.logit_scale())
        assert float(loss(model, batch, stream(0, "loss"))) == pytest.approx(float(mmcl))
        loss.anchors = -loss.anchors  # unit vectors: the squared distance is 4
        assert float(loss(model, batch, stream(0, "loss"))) == pytest.approx(float(mmcl) + 2 * 4)


def test_a_round_begins_with_its_share_of_adversarial_examples(
    planted: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    attacked: list[int] = []

    def count(_: Clip, images: Tensor, *__: object) -> Tensor:
        attacked.append(len(images))
        return images

    monkeypatch.setattr(pud, "adversarial_examples", count)
    model = Planted()
    # 30 pairs in batches of 16 and 14; 0.6 of 60 pairs are 36: one epoch, and a batch.
    detected(model, planted, PUD(shares=(0.5,), batch_size=16, adversarial_share=0.6, epochs=4))
    assert attacked == [16, 14, 16]
    loss = purifying(planted, model, adversarial=100)
    loss.begin(model, 3, stream(0, "loss"))
    assert loss.seen == 180


@pytest.fixture(scope="module")
def train(corpus: Input, poison: Input) -> Pairs:
    pairs = load_split(corpus.folder, "train", overlay=poison.folder / "overlay.parquet")
    return pairs.take(torch.arange(96)).blind()


def test_the_image_tower_alone_is_purified(victim: Input, train: Pairs) -> None:
    purified = (
        detected(load(victim.folder), train, QUICK).models["purified.safetensors"].full_state()
    )
    had = load(victim.folder).full_state()
    moved = {name for name in had if not torch.equal(had[name], purified[name])}
    assert moved
    assert all(name.startswith("visual.") for name in moved)


@pytest.mark.parametrize("aim", ["mismatch", "displacement"])
def test_a_killed_detection_resumes_to_the_same_scores(
    victim: Input, train: Pairs, tmp_path: Path, aim: str
) -> None:
    method = replace(QUICK, aim=aim)
    whole = detected(load(victim.folder), train, method)

    class KilledError(Exception):
        pass

    epochs: list[int] = []

    def kill(epoch: int, _: Clip) -> None:
        epochs.append(epoch)
        if len(epochs) == 4:  # the last epoch of the second round
            raise KilledError

    with pytest.raises(KilledError):
        detected(load(victim.folder), train, method, Hooks(work=tmp_path, after_epoch=kill))
    resumed = detected(load(victim.folder), train, method, Hooks(work=tmp_path, after_epoch=kill))
    assert epochs == [1, 2, 1, 2, 2]
    assert torch.equal(resumed.score, whole.score)
    assert torch.equal(resumed.columns["agrees"], whole.columns["agrees"])


def test_a_strong_anchor_keeps_the_embeddings_closer_to_the_victims(
    victim: Input, train: Pairs
) -> None:
    before = embed_images(load(victim.folder), train.images)

    def drift(weight: float) -> float:
        model = load(victim.folder)
        detected(model, train, replace(QUICK, anchor_weight=weight, lr=1e-2))
        return float((embed_images(model, train.images) - before).square().sum(dim=1).mean())

    assert drift(100.0) < drift(0.0)
