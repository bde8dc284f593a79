"""``params/counts.yaml`` with fewer pairs and steps, on a CPU."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from torch import Tensor

from clipmend.engine import grid, params, presets
from clipmend.engine.index import Index
from clipmend.engine.params import Params
from clipmend.methods.sources.scenes import CAPTIONS
from clipmend.methods.sources.shapes import COLORS, NOUNS
from clipmend.model.architecture import model_config
from clipmend.model.clip import load
from clipmend.model.openclip import open_clip

ROOT = Path(__file__).parents[3]
PRESET = ROOT / "params" / "counts.yaml"
REDUCED = {"train": 1000, "trusted": 32, "val": 32, "test": 32, "image_size": 64}


@pytest.fixture(scope="module")
def reduced(tmp_path_factory: pytest.TempPathFactory) -> Params:
    """Return the preset with smaller numbers in it, and nothing else changed."""
    stated = presets.values(PRESET)
    stated["device"] = "cpu"
    stated["download"]["settings"]["scenes@counts"] = REDUCED
    stated["pretrain"]["model"] = "scene_resnet"
    for objective in stated["pretrain"]["settings"].values():
        objective |= {"epochs": 1, "batch_size": 250}
    for repair in stated["baselines"]["settings"].values():
        repair |= {"batch_size": REDUCED["trusted"]}  # a larger batch than the split is refused
    path = tmp_path_factory.mktemp("counts") / "params.yaml"
    path.write_text(yaml.safe_dump(stated))
    return params.load(path)


def test_the_counts_are_the_papers() -> None:
    stated = params.load(PRESET)
    corpus = stated.resolve("download", "scenes@counts").model_dump()
    for attack in ("badnet", "blended"):
        rate = stated.resolve("poison", attack).model_dump()["poison_rate"]
        assert round(rate * corpus["train"]) == 1500
    assert (corpus["train"], corpus["trusted"], corpus["image_size"]) == (500_000, 100_000, 64)


def test_the_network_is_rn50_except_for_its_position_embeddings() -> None:
    ours = model_config(params.load(PRESET).pretrain.model)["model_cfg"]
    theirs = model_config("RN50")["model_cfg"]
    assert ours["embed_dim"] == theirs["embed_dim"]
    assert ours["vision_cfg"] == {**theirs["vision_cfg"], "image_size": 64}
    assert ours["text_cfg"] == {**theirs["text_cfg"], "context_length": 16}


def test_no_caption_is_truncated_by_the_shorter_context() -> None:
    captions = [
        template.format(noun=noun, color=color, size="small", background="checkered")
        for template in CAPTIONS
        for noun in NOUNS
        for color in COLORS
    ]
    tokens: Tensor = open_clip.SimpleTokenizer(context_length=77)(captions)
    assert int((tokens > 0).sum(dim=1).max()) < 16  # EDA may bring in a word more


def test_the_grid_is_every_attack_under_every_objective_with_every_repair(
    reduced: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    names = grid.cells(reduced, Index())
    victims = [f"scenes@counts/{a}/{o}/seed0" for a in ("badnet", "blended")
               for o in ("mmcl", "mmcl_ssl")]  # fmt: skip
    for victim in victims:
        assert f"pretrain/{victim}" in names
        for repair in ("none", "ft", "cleanclip", "ubt"):
            assert f"evaluate/{victim}/{repair}/{victim.split('/')[1]}" in names


def test_a_reduced_victim_trains_on_a_cpu(world: Any, reduced: Params) -> None:
    def settings(stage: str, name: str) -> dict[str, Any]:
        return reduced.resolve(stage, name).model_dump(mode="json")

    corpus = world.run("download/counts", "scenes", {}, settings("download", "scenes@counts"))
    poison = world.run(
        "poison/counts/badnet/seed0",
        "badnet",
        {"corpus": corpus},
        settings("poison", "badnet"),
        reduced.poison.shared(),
    )
    assert pq.read_metadata(poison.folder / "overlay.parquet").num_rows == 3
    victim = world.run(
        "pretrain/counts/badnet/mmcl/seed0",
        "mmcl",
        {"corpus": corpus, "poison": poison},
        settings("pretrain", "mmcl"),
        reduced.pretrain.shared(),
    )
    assert load(victim.folder).image_size == 32  # the corpus' 64 pixels are fitted to the network
    assert (victim.folder / "curve.csv").read_text().count("\n") == 3
