"""RVPT: labeled images train visual prompts alone, away from the victim's class tokens."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from clipmend.data.splits import Pairs, Vocabulary, load_split, read_vocabulary
from clipmend.engine.job import Input
from clipmend.errors import ModelError, ParamsError
from clipmend.methods.interfaces import Assets
from clipmend.methods.repairs.run import carry_out
from clipmend.methods.repairs.rvpt import RVPT, RepulsiveLoss, few_of_each, likeness
from clipmend.model.clip import Clip, build
from clipmend.model.fit import Batch, Hooks
from clipmend.model.zero_shot import class_cosines, class_embeds, prompts_of
from clipmend.tools.standalone.options import Options
from clipmend.tools.standalone.settings import choose

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
VISION = {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8}


@pytest.fixture(scope="module")
def vocabulary(corpus: Input) -> Vocabulary:
    return read_vocabulary(corpus.folder)


@pytest.fixture(scope="module")
def pairs(corpus: Input) -> Pairs:
    return load_split(corpus.folder, "trusted").take(torch.arange(64))


@pytest.fixture
def victim(tmp_path: Path, pairs: Pairs, vocabulary: Vocabulary) -> Clip:
    path = tmp_path / "vit.json"
    path.write_text(json.dumps({"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT}))
    texts = (*pairs.captions, *prompts_of(vocabulary))
    return build(str(path), seed=0).prune_vocabulary(texts).eval()


def repaired(victim: Clip, pairs: Pairs, vocabulary: Vocabulary, **settings: object) -> Clip:
    model = victim.frozen_copy().requires_grad_(True)
    assets = Assets(model, labeled=lambda: pairs, vocabulary=lambda: vocabulary)
    generators = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    carry_out(RVPT(first_layer=1, tokens=4, **settings), assets, generators, Hooks())  # type: ignore[arg-type]
    return model


def test_prompts_alone_are_trained_and_the_classes_of_images_are_learned(
    victim: Clip, pairs: Pairs, vocabulary: Vocabulary
) -> None:
    def error(model: Clip) -> float:
        cosines = class_cosines(model, pairs.images, class_embeds(model, vocabulary))
        with torch.no_grad():
            return float(F.cross_entropy(model.logit_scale() * cosines, pairs.label))

    model = repaired(victim, pairs, vocabulary, epochs=10, weight=0.0, lr=0.1)
    before, after = victim.full_state(), model.full_state()
    assert {name.split(".")[-1] for name in after.keys() - before.keys()} == {"visual_prompts"}
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert error(model) < error(victim) - 0.05


def test_the_repulsion_moves_class_tokens_away(
    victim: Clip, pairs: Pairs, vocabulary: Vocabulary
) -> None:
    classes, rows = class_embeds(victim, vocabulary), torch.arange(8)
    batch = Batch(rows, pairs.images[rows], victim.tokenize(pairs.captions[:8]))

    def alike(model: Clip) -> float:
        def loss(weight: float) -> float:
            repulsive = RepulsiveLoss(victim, pairs, classes, 1, weight)
            with torch.no_grad():
                return float(repulsive(model.eval(), batch, torch.Generator()))

        return loss(1.0) - loss(0.0)

    assert alike(victim.frozen_copy()) == pytest.approx(1, abs=1e-4)
    near, far = (
        repaired(victim, pairs, vocabulary, epochs=5, weight=weight) for weight in (0.0, 5.0)
    )
    assert alike(far) < alike(near) - 0.02


def test_the_loss_without_repulsion_is_the_cross_entropy_of_the_classes(
    victim: Clip, pairs: Pairs, vocabulary: Vocabulary
) -> None:
    classes, rows = class_embeds(victim, vocabulary), torch.tensor([5, 9, 2])
    batch = Batch(rows, pairs.images[rows], victim.tokenize(pairs.captions[:3]))
    loss = RepulsiveLoss(victim, pairs, classes, 1, 0.0)(victim, batch, torch.Generator()).detach()
    logits = victim.logit_scale().detach() * class_cosines(victim, pairs.images[rows], classes)
    chances = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    expected = -chances[torch.arange(3), pairs.label[rows]].log().mean()
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)


def test_likeness_is_the_mean_cosine_of_blocks_and_images() -> None:
    own = [torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[3.0, 3.0], [1.0, 0.0]])]
    others = [torch.tensor([[5.0, 0.0], [0.0, -1.0]]), torch.tensor([[1.0, 1.0], [0.0, 1.0]])]
    assert float(likeness(own, others)) == pytest.approx((1 - 1 + 1 + 0) / 4)


def test_few_images_of_each_class_are_chosen_by_the_seed() -> None:
    label = torch.tensor([0] * 9 + [1] * 2 + [3] * 5)
    first, same, other = (
        few_of_each(label, 3, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert label[first].tolist() == [0, 0, 0, 1, 1, 3, 3, 3]
    assert first.tolist() == sorted(set(first.tolist()))


def test_a_resnet_and_a_defender_without_labels_are_refused(
    victim: Clip, pairs: Pairs, vocabulary: Vocabulary
) -> None:
    resnet = build("scene_resnet", seed=0).eval()
    with pytest.raises(ModelError, match="need a vision transformer"):
        repaired(resnet, pairs, vocabulary)
    with pytest.raises(ModelError, match="the classes of trusted pairs"):
        next(RVPT().tasks(Assets(victim), torch.Generator()))
    options = Options(model="m", trusted=Path("clean.parquet"), method="rvpt")
    with pytest.raises(ParamsError, match="needs the classes of clean images"):
        choose(options, is_repair=True)
