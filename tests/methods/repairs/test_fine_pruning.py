"""Fine-Pruning: dormant units are pruned first, and they stay silent."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from clipmend.data.splits import Pairs, load_split
from clipmend.engine.job import Input
from clipmend.errors import ModelError
from clipmend.methods.repairs.fine_pruning import dormant, mean_activity, units_of
from clipmend.model.batch_losses import multimodal
from clipmend.model.clip import Clip, build, embed_images, load
from clipmend.model.fit import Schedule, Task, fit

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
TOWERS = {
    "vit": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "resnet": {"image_size": 32, "layers": [1, 1, 1, 2], "width": 8, "patch_size": None},
}


@pytest.fixture(scope="module")
def pairs(corpus: Input) -> Pairs:
    return load_split(corpus.folder, "trusted").blind().take(torch.arange(32))


@pytest.fixture(params=TOWERS)
def model(request: Any, tmp_path: Path, pairs: Pairs) -> Clip:
    path = tmp_path / "tiny.json"
    tower = {"embed_dim": 16, "vision_cfg": TOWERS[request.param], "text_cfg": TEXT}
    path.write_text(json.dumps(tower))
    return build(str(path), seed=0).prune_vocabulary(pairs.captions).eval()


def activity_of(model: Clip, pairs: Pairs) -> torch.Tensor:
    return mean_activity(model, units_of(model).module, pairs.images)


def test_the_least_active_share_is_dormant() -> None:
    activity = torch.tensor([0.5, 0.0, 2.0, 0.1, 0.0, 3.0, 0.2, 1.0])
    assert dormant(activity, 0.5).tolist() == [1, 3, 4, 6]
    assert dormant(activity, 0.0).tolist() == []


def test_activity_is_the_mean_over_images_and_positions(model: Clip, pairs: Pairs) -> None:
    seen = []
    at = units_of(model).module
    hook = at.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    embed_images(model, pairs.images)
    hook.remove()
    (output,) = seen
    size = output.shape[1] if output.ndim == 4 else output.shape[-1]
    expected = [
        float((output[:, unit] if output.ndim == 4 else output[..., unit]).abs().mean())
        for unit in range(size)
    ]
    assert activity_of(model, pairs).tolist() == pytest.approx(expected, rel=1e-4, abs=1e-7)
    assert not at._forward_hooks  # nothing of the measurement stays


def test_dormant_units_are_pruned_first_without_effect(model: Clip, pairs: Pairs) -> None:
    planted = activity_of(model, pairs).topk(3).indices  # what nobody would have pruned
    units_of(model).silence(planted)
    had = embed_images(model, pairs.images)
    activity = activity_of(model, pairs)
    silent = (activity == 0).nonzero()[:, 0]
    assert set(planted.tolist()) <= set(silent.tolist())
    pruned = dormant(activity, len(silent) / len(activity))
    assert pruned.tolist() == silent.tolist()
    units_of(model).silence(pruned)
    assert torch.equal(embed_images(model, pairs.images), had)


def test_pruned_units_stay_silent_through_training_and_in_the_saved_model(
    model: Clip, pairs: Pairs, tmp_path: Path
) -> None:
    before = activity_of(model, pairs)
    rows = dormant(before, 0.5)
    units_of(model).silence(rows)
    schedule = Schedule(epochs=4, batch_size=16, lr=1e-2)
    fit(model, Task(pairs, multimodal, schedule), torch.Generator().manual_seed(0))
    model.save(tmp_path)
    saved = load(tmp_path)
    active = activity_of(saved, pairs)
    assert (active[rows] == 0).all()
    others = torch.ones(len(active), dtype=torch.bool)
    others[rows] = False
    assert (active[others] > 0).float().mean() > 0.5
    for tensor, axis in units_of(saved).tensors:
        assert (tensor.index_select(axis, rows) == 0).all()
        assert tensor.movedim(axis, 0)[others].ne(0).any()


def test_an_unsupported_image_tower_is_refused() -> None:
    model = build("scene_resnet", seed=0)
    model.net.visual = torch.nn.Linear(1, 1)
    with pytest.raises(ModelError, match="image tower of kind Linear"):
        units_of(model)
