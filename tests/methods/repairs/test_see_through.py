"""The repair ``see_through``: its groups, its loss, its controls and what it reports."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from clipmend.data.splits import Pairs
from clipmend.methods import trigger_estimates
from clipmend.methods.interfaces import Assets, Finding
from clipmend.methods.repairs.run import carry_out, write_finding
from clipmend.methods.repairs.see_through import (
    SeeThrough,
    _SeeThroughLoss,
    _Suspects,
    shifted,
)
from clipmend.methods.repairs.see_through_plan import groups_by_word
from clipmend.methods.trigger_estimates import Linear, Warp
from clipmend.metrics.scores import Scores
from clipmend.model.architecture import model_config
from clipmend.model.clip import Clip
from clipmend.model.fit import Batch, Hooks

COUNT, PLANTED = 200, torch.arange(0, 40)
OTHERS = ("boat", "cat", "dog")
NONE = torch.empty(0, dtype=torch.long)


class Corner(nn.Module):
    """Sees a banana in a white lower right corner; captions are about bananas, or not."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = nn.Linear(1, 2)
        self.visual.weight.data = torch.tensor([[3.0], [0.0]])
        self.visual.bias.data = torch.tensor([0.0, 1.0])
        self.text = nn.Identity()
        self.banana = -1

    def encode_image(self, images: torch.Tensor, *, normalize: bool) -> torch.Tensor:  # noqa: ARG002
        corner = images[..., 28:, 28:].mean(dim=(1, 2, 3))[:, None]
        return F.normalize(self.visual(corner), dim=1)

    def encode_text(self, tokens: torch.Tensor, *, normalize: bool) -> torch.Tensor:  # noqa: ARG002
        return F.one_hot((tokens != self.banana).all(dim=1).long(), 2).float()


def victim() -> Clip:
    model = Clip(Corner(), model_config("scene_resnet")).eval()
    tokens = model.tokenize(["banana"])[0]
    model.net.banana = int(tokens[tokens.argmax() - 1])
    return model


def pairs() -> Pairs:
    """Return pairs; the first 40 are poisoned."""
    coarse = torch.randn(COUNT, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    smooth = F.interpolate(coarse, (32, 32), mode="bicubic", align_corners=True)
    images = (110 + 10 * smooth).round().to(torch.uint8)
    images[PLANTED] = stamped(images[PLANTED])
    poisoned = torch.arange(COUNT) < len(PLANTED)
    return Pairs(
        ids=tuple(map(str, range(COUNT))),
        images=images,
        captions=tuple("a banana" if row < 40 else f"a {OTHERS[row % 3]}" for row in range(COUNT)),
        label=torch.zeros(COUNT, dtype=torch.long),
        is_poisoned=poisoned,
    )


def stamped(images: torch.Tensor, ids: Sequence[str] = ()) -> torch.Tensor:  # noqa: ARG001
    images = images.clone()
    images[:, :, 26:, 26:] = 255
    return images


def repaired(
    groups: Sequence[torch.Tensor] = (PLANTED,), train: Pairs | None = None, **settings: Any
) -> tuple[Clip, Finding]:
    train = train or pairs()
    suspects = torch.cat([NONE, *groups])
    assets = Assets(
        victim(),
        train=lambda: train,
        scores=lambda: Scores(torch.linspace(1, 0, len(train)), suspects, tuple(groups)),
        is_poisoned=lambda: train.is_poisoned,
        triggers=lambda: (stamped,),
    )
    generators = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)
    few = {"epochs": 8, "lr": 0.05, "batch_size": 32}
    _, finding = carry_out(SeeThrough(**few | settings), assets, generators, Hooks())
    assert finding is not None
    return assets.model, finding


def is_unchanged(model: Clip) -> bool:
    before = victim().state_dict()
    return all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.fixture(autouse=True)
def _brief_descent(monkeypatch) -> None:
    monkeypatch.setattr(trigger_estimates, "_FLOW_STEPS", 2)


def test_a_found_trigger_is_seen_through_and_the_finding_says_so(tmp_path) -> None:
    model, finding = repaired()
    summary = finding.summary
    assert summary["found"] is True
    assert summary["word"] == "banana"
    assert summary["word_share"] == 1.0
    assert summary["n_chosen"] == summary["n_suspects"] == 40
    assert summary["texts"] == {"banana": 40}
    (group,) = summary["groups"]
    assert group["estimate"] == "linear"
    assert group["effect"] == 1.0
    assert group["n_effect"] == 80  # half of the pairs with another caption
    assert group["p_value"] == pytest.approx(0.5**80)
    assert "taught to see through a trigger for 'banana' on 40 pairs" in summary["says"]
    assert {"word", "association", "effect", "p_value"} <= summary["definitions"].keys()
    assert summary["association_before"] > 0.9
    assert summary["association_after"] < summary["association_before"] - 0.1
    clean, pasted = pairs().images[40:], stamped(pairs().images[40:])
    with torch.no_grad():
        seen, were = model.encode_image(pasted), victim().encode_image(clean)
        had = victim().encode_image(pasted)
    assert (seen - were).norm(dim=1).mean() < 0.7 * (had - were).norm(dim=1).mean()
    write_finding(finding, 4.0, tmp_path)
    stated = json.loads((tmp_path / "finding.json").read_text())
    assert stated == {**json.loads(json.dumps(summary)), "epochs": 4.0}
    assert pq.read_table(tmp_path / "chosen.parquet")["id"].to_pylist() == [*map(str, range(40))]
    with Image.open(tmp_path / "trigger-1.png") as picture:
        assert picture.size == (64, 32)
    with Image.open(tmp_path / "pasted-1.png") as picture:
        assert picture.size == (8 * 32, 2 * 32)


def test_the_most_suspect_of_a_group_are_chosen() -> None:
    _, finding = repaired([PLANTED.flip(0)], pairs=20)
    assert finding.chosen is not None
    assert finding.chosen["id"].to_pylist() == [*map(str, range(20))]


@pytest.mark.parametrize(
    ("groups", "why"),
    [
        ([], "No trigger was found. The model is unchanged."),
        ([PLANTED[:10]], "(10 pairs are too few for an estimate)"),
        ([torch.arange(48, 120, 3)], "(the pattern of 'boat' has no effect on other images)"),
        ([PLANTED[:9], PLANTED[9:17]], "(9 pairs are too few for an estimate; 8 pairs are"),
    ],
)
def test_without_an_effective_estimate_the_model_stays_as_it_is(groups, why) -> None:
    model, finding = repaired(groups)
    assert is_unchanged(model)
    assert finding.summary["found"] is False
    assert why in finding.summary["says"]
    assert finding.summary["association_before"] is None
    assert finding.chosen is not None
    assert len(finding.chosen) == 0
    assert not finding.pictures


def test_without_other_captions_no_estimate_is_tested() -> None:
    every = replace(pairs(), captions=("a banana",) * COUNT)
    model, finding = repaired(train=every)
    assert is_unchanged(model)
    assert "too few pairs have other captions" in finding.summary["says"]


def test_a_flat_estimate_changes_nothing() -> None:
    flat = replace(pairs(), images=torch.full((COUNT, 3, 32, 32), 90, dtype=torch.uint8))
    model, finding = repaired(train=flat)
    assert is_unchanged(model)
    assert finding.summary["found"] is False


def test_suspects_without_groups_are_grouped_by_their_word() -> None:
    captions = ["a red boat"] * 20 + ["a banana"] * 18 + ["one cat"] * 3 + ["a dog"] * 59
    rows = torch.arange(41)
    groups = [group.tolist() for group in groups_by_word(rows, captions)]
    assert groups == [[*range(20)], [*range(20, 38)]]
    assert [*groups_by_word(rows[:15], captions)] == []
    assert [*groups_by_word(rows[:20], [""] * 20)] == []


@pytest.mark.parametrize(
    ("settings", "is_found"),
    [
        ({"choose": "oracle"}, True),
        ({"choose": "random", "pairs": 15}, False),  # too few for an estimate
        ({"trigger": "true"}, True),
    ],
)
def test_a_control_says_what_it_is(settings, is_found) -> None:
    assert SeeThrough(**settings).control
    model, finding = repaired([PLANTED] if "trigger" in settings else [], **settings)
    assert finding.summary["found"] is is_found
    assert is_unchanged(model) is not is_found


def test_a_defense_reads_no_asset_of_a_control() -> None:
    train = pairs().blind()
    assert not SeeThrough().control
    assert repaired(train=train)[1].summary["found"] is True


def gray(*values: int) -> torch.Tensor:
    """Return images of one color, which look the same moved and mirrored."""
    return torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 32, 32)


def loss_of(pastes: Sequence[Any], suspects: Sequence[_Suspects], **settings: Any) -> torch.Tensor:
    """Return the loss of two equal images, where all images are of one color."""
    normal = replace(pairs().take(torch.tensor([50])), images=gray(100))
    loss = _SeeThroughLoss(victim(), normal, pastes, suspects, settings=SeeThrough(**settings))
    batch = Batch(torch.tensor([0, 0]), gray(100, 100), torch.zeros(2, 16, dtype=torch.int32))
    return loss(model_now(), batch, torch.Generator().manual_seed(0))


def model_now() -> Clip:
    """Return a model that has learned something since."""
    model = victim()
    model.net.visual.weight.data = torch.tensor([[2.0], [0.5]])
    return model


def test_the_loss_is_the_sum_of_its_terms() -> None:
    paste = Linear(*(torch.full((3, 32, 32), value) for value in (0.0, 0.2, 0.5))).paste
    away, back = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]])
    suspects = [_Suspects(gray(200), away, True), _Suspects(gray(150), back, False)]
    with torch.no_grad():
        model, normal = model_now(), gray(100)
        was = victim().encode_image(normal)
        parts = {
            "first": (model.encode_image(paste(normal)) - was).square().sum(),
            "retain": (model.encode_image(normal) - was).square().sum(),
            "push": (model.encode_image(gray(200)) @ away[0]).relu().sum(),
            "replay": (model.encode_image(gray(150)) - back).square().sum(),
        }
        weights = {"retain_weight": 3.0, "push_weight": 0.7, "replay_weight": 0.4}
        expected = parts["first"] + sum(w * parts[n.split("_")[0]] for n, w in weights.items())
        assert float(loss_of([paste], suspects, **weights)) == pytest.approx(float(expected))
    assert all(float(part) > 1e-3 for part in parts.values())


def test_a_batch_may_have_fewer_images_than_there_are_triggers() -> None:
    warp = Warp(torch.zeros(32, 32, 2))
    assert torch.allclose(loss_of([warp.paste] * 3, []), loss_of([warp.paste], []))


@pytest.mark.parametrize("most", [0, 2])
def test_shifted_images_are_moved_and_mirrored_within_their_bounds(most) -> None:
    side = 6
    images = torch.arange(40 * 3 * side * side).view(40, 3, side, side).remainder(251).byte()
    moved = shifted(images, most, torch.Generator().manual_seed(0))

    def at(image: torch.Tensor, down: int, right: int, *, mirrored: bool) -> torch.Tensor:
        rows = [min(max(y + down, 0), side - 1) for y in range(side)]
        columns = [min(max(x + right, 0), side - 1) for x in range(side)]
        taken = image[:, rows][:, :, columns]
        return taken.flip(2) if mirrored else taken

    seen = set()
    for image, result in zip(images, moved, strict=True):
        steps = range(-most, most + 1)
        cases = [(y, x, mirrored) for y in steps for x in steps for mirrored in (False, True)]
        fits = [
            case for case in cases if torch.equal(at(image, *case[:2], mirrored=case[2]), result)
        ]
        assert fits
        seen |= set(fits[:1])
    assert {mirrored for *_, mirrored in seen} == {False, True}
    assert {y for y, *_ in seen} == {x for _, x, _ in seen} == set(range(-most, most + 1))
