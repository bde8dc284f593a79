"""A practitioner's two commands: what they write, and that it is what the stages make."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from clipmend.data.splits import load_sample
from clipmend.engine.job import Input
from clipmend.model.clip import build, embed_images, load
from clipmend.model.openclip import open_clip

FEW = {"pairs": 16, "epochs": 4, "cooldown": 1, "batch_size": 8, "least_excess": 0.0}
SET = [word for name, value in FEW.items() for word in ("--set", f"unlearn.{name}={value}")]
WEIGHTS = "model.safetensors"


@pytest.fixture
def own(victim: Input, pairs: Path) -> list[object]:
    return ["--model", victim.folder, "--pairs", pairs, "--method", "ubt"]


def test_suspects_ranks_every_pair_as_the_stage_does(
    scored: Input, own: list[object], clipmend: Any, folder: Path
) -> None:
    out, _ = clipmend("suspects", *own)
    made = folder / "suspects"
    assert {path.name for path in made.iterdir()} == {
        *("suspects.parquet", "suspects.png", "finding.json")
    }
    ranked = pq.read_table(made / "suspects.parquet").to_pandas()
    assert list(ranked) == [
        *("id", "caption", "score", "suspect"),
        *("similarity_before", "similarity_after", "rank"),
    ]
    stage = pq.read_table(scored.folder / "scores.parquet").to_pandas()
    pd.testing.assert_frame_equal(
        ranked.set_index("id").sort_index()[list(stage.columns[1:])],
        stage.set_index("id").sort_index(),
    )
    assert ranked["score"].is_monotonic_decreasing
    assert list(ranked["rank"]) == list(range(1, 257))
    assert ranked["suspect"].tolist() == [True] * 51 + [False] * 205
    finding = json.loads((made / "finding.json").read_text())
    assert finding["association_after"] is None
    assert "unchanged" not in finding["says"]
    assert out.strip().splitlines()[0] == finding["says"]


@pytest.fixture
def stage(world: Any, corpus: Input, poison: Input, victim: Input, scored: Input) -> Path:
    inputs = {"corpus": corpus, "poison": poison, "victim": victim, "detector": scored}
    return world.run("unlearn/practice/ubt", "ubt", inputs, FEW).folder


def test_mend_makes_what_the_stage_makes_and_plain_open_clip_loads_it(
    corpus: Input, stage: Path, own: list[object], clipmend: Any, folder: Path
) -> None:
    clipmend("mend", *own, *SET)
    mended = folder / "mended"
    assert (mended / "model" / WEIGHTS).read_bytes() == (stage / WEIGHTS).read_bytes()
    assert pq.read_table(mended / "chosen.parquet").equals(pq.read_table(stage / "chosen.parquet"))
    finding = json.loads((mended / "finding.json").read_text())
    assert finding == json.loads((stage / "finding.json").read_text())
    assert finding["found"] is True
    losses = pd.read_csv(mended / "curve.csv")
    assert losses["loss"].notna().all()
    assert losses["clean_accuracy"].isna().all()
    assert (mended / "suspects.parquet").is_file()
    assert (mended / "suspects.png").is_file()

    plain = open_clip.create_model(f"local-dir:{mended / 'model'}").eval()
    ours = load(mended / "model")
    images = load_sample(corpus.folder, "val", 4).images
    with torch.no_grad():
        embeds = plain.encode_image((images.float() / 255 - ours._mean) / ours._std, normalize=True)
    assert torch.allclose(embeds, embed_images(ours, images), atol=1e-5)


def test_where_nothing_is_found_the_model_is_written_as_it_was(
    victim: Input, own: list[object], clipmend: Any, folder: Path
) -> None:
    out, _ = clipmend("mend", *own, "--set", "unlearn.least_excess=1.0", "--out", "here")
    made = folder / "here"
    assert (made / "model" / WEIGHTS).read_bytes() == (victim.folder / WEIGHTS).read_bytes()
    says = out.strip().splitlines()[0]
    assert says.startswith("Nothing suspicious was found: ")
    assert says.endswith(" The model is unchanged.")
    assert pq.read_table(made / "chosen.parquet").num_rows == 0


def test_by_default_a_group_with_a_shared_pattern_is_found_and_its_trigger_shown(
    victim: Input, pairs: Path, clipmend: Any, folder: Path
) -> None:
    out, _ = clipmend("mend", "--model", victim.folder, "--pairs", pairs)
    made = folder / "mended"
    finding = json.loads((made / "finding.json").read_text())
    ranked = pq.read_table(made / "suspects.parquet").to_pandas()
    assert {"suspect", "group", "p_value"} <= set(ranked)
    assert out.strip().splitlines()[0] == finding["says"]
    assert len(list(made.glob("trigger-*.png"))) == len(finding["groups"])
    is_same = (made / "model" / WEIGHTS).read_bytes() == (victim.folder / WEIGHTS).read_bytes()
    assert is_same is not finding["found"]


def test_early_weights_are_refused_by_a_method_that_does_not_read_them(
    victim: Input, pairs: Path, clipmend: Any
) -> None:
    own = ["--model", victim.folder, "--pairs", pairs]
    _, error = clipmend("mend", *own, "--early", victim.folder / "early.safetensors", status=2)
    assert "--method ubt" in error


def test_any_open_clip_architecture_with_a_file_of_weights_will_do(
    pairs: Path, clipmend: Any, folder: Path
) -> None:
    """A vision transformer, its weights a pickle of tensors as open_clip's trainer keeps them."""
    config = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 48, "layers": 2, "width": 64, "patch_size": 16},
        "text_cfg": {
            "context_length": 5,
            "vocab_size": 49408,
            "width": 32,
            "heads": 2,
            "layers": 1,
        },
    }
    architecture = folder / "small-vit.json"
    architecture.write_text(json.dumps(config))
    state = build(str(architecture), seed=1).full_state()
    kept = {"epoch": 1, "state_dict": {f"module.{name}": value for name, value in state.items()}}
    torch.save(kept, folder / "epoch_1.pt")
    # Captions are longer than the five tokens that the model reads: less a word, another is read.
    words = ["--model", "epoch_1.pt", "--architecture", "small-vit.json", "--pairs", pairs]
    words += ["--method", "ubt"]
    clipmend("mend", *words, *SET, "--limit", 128)
    out = folder / "mended"
    made = load_file(out / "model" / WEIGHTS)
    assert made.keys() == state.keys()
    assert torch.equal(made["token_embedding.weight"], state["token_embedding.weight"])
    assert not torch.equal(made["visual.conv1.weight"], state["visual.conv1.weight"])
    assert pq.read_table(out / "suspects.parquet").num_rows == 128
    assert json.loads((out / "model" / "open_clip_config.json").read_text())["model_cfg"] == config
    open_clip.create_model(f"local-dir:{out / 'model'}")


def test_the_pre_scoring_uses_early_weights(
    victim: Input, scored: Input, own: list[object], clipmend: Any, folder: Path
) -> None:
    clipmend("suspects", *own, "--early", victim.folder / "early.safetensors")
    tables = (folder / "suspects" / "suspects.parquet", scored.folder / "scores.parquet")
    early, late = (pq.read_table(table).to_pandas().set_index("id") for table in tables)
    column = "similarity_before"
    assert (early[column] - late[column].loc[early.index]).abs().max() > 0.01
