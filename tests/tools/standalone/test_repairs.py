"""Every repair whose needs are met: its model, its card, and the way back from a kill."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from clipmend.data import streaming
from clipmend.data.artifacts import MODEL as WEIGHTS
from clipmend.engine.job import Input
from clipmend.methods.table import METHODS
from clipmend.model.clip import build, load
from clipmend.model.fit import Hooks
from clipmend.tools.standalone import inspection, progress

SHORT = {
    "ubt": {"unlearn.epochs": 2, "unlearn.cooldown": 1, "unlearn.least_excess": 0},
    "see_through": {},
    "abl": {"unlearn.epochs": 1, "unlearn.isolated": 0.1},
    "pud": {
        **{"detect.shares": [0.2], "detect.epochs": 1, "detect.bank": 16},
        **{"unlearn.epochs": 1, "unlearn.unlearning_epochs": 1},
    },
    "tbar": {"unlearn.epochs": 1},
    "invertune": {
        **{"unlearn.least_excess": 0, "unlearn.inversion_epochs": 1, "unlearn.epochs": 1},
    },
    "ft": {"baselines.epochs": 1},
    "cleanclip": {"baselines.epochs": 1},
    "par": {"baselines.epochs": 1},
    "adversarial_ft": {"baselines.epochs": 1, "baselines.steps": 1},
    "fine_pruning": {"baselines.epochs": 1},
}

REPAIRS = {*METHODS["unlearn"], *METHODS["baselines"]}


def settings(method: str) -> list[str]:
    return [part for name, value in SHORT[method].items() for part in ("--set", f"{name}={value}")]


def card(out: Path) -> tuple[dict[str, Any], str]:
    _, front, text = (out / "model" / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), text


@pytest.mark.parametrize("method", sorted(REPAIRS - {"rvpt"}))  # it needs labels
def test_every_repair_of_the_table_is_offered_where_its_needs_are_met(
    method: str, victim: Input, corpus: Input, pairs: Path, clipmend: Any, folder: Path
) -> None:
    on_pairs = method in METHODS["unlearn"]
    given = ["--pairs", pairs] if on_pairs else ["--trusted", corpus.folder / "trusted.parquet"]
    given += ["--early", victim.folder / "early.safetensors"] if method == "abl" else []
    given += ["--trusted", corpus.folder / "trusted.parquet"] if method == "invertune" else []
    out, _ = clipmend(
        *("mend", "--model", victim.folder, "--method", method, *given, *settings(method))
    )
    written = {path.name for path in (folder / "mended").iterdir()}
    assert {"model", "curve.csv"} <= written
    assert ("suspects.parquet" in written) is on_pairs
    assert progress.PROGRESS not in written
    front, text = card(folder / "mended")
    assert front["library_name"] == "open_clip"
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings[:3] == ["## What was found", "## What was done", "## What was not tested"]
    assert f"`{method}`" in text
    finding = folder / "mended" / "finding.json"
    says = json.loads(finding.read_text())["says"] if finding.exists() else ""
    assert says in text
    assert out.strip().startswith(says)
    same = (folder / "mended/model" / WEIGHTS).read_bytes() == (
        victim.folder / WEIGHTS
    ).read_bytes()
    assert same is (bool(says) and not json.loads(finding.read_text())["found"])


def test_a_repair_on_trusted_pairs_makes_what_the_stage_makes(
    world: Any, attacked: dict[str, Input], clipmend: Any, folder: Path
) -> None:
    stage = world.run("baselines/practice/ft", "ft", attacked, {"epochs": 1})
    trusted = attacked["corpus"].folder
    clipmend(
        *("mend", "--model", attacked["victim"].folder, "--trusted", trusted),
        *("--method", "ft", "--set", "baselines.epochs=1"),
    )
    made, stages = (load_file(f / WEIGHTS) for f in (folder / "mended" / "model", stage.folder))
    # The stage decays the words of the prompts too, which a user does not give.
    words = "token_embedding.weight"
    assert made.keys() == stages.keys()
    assert all(torch.equal(made[name], stages[name]) for name in made if name != words)


def test_a_model_with_visual_prompts_keeps_them_and_its_card_says_who_can_load_it(
    corpus: Input, clipmend: Any, folder: Path
) -> None:
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
    text = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    Path("vit.json").write_text(
        json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text})
    )
    model = build("vit.json", seed=0)
    model.add_visual_prompts(tokens=2, first_layer=1)
    own = Path("prompted")
    own.mkdir()
    model.save(own)
    trusted = corpus.folder / "trusted.parquet"
    clipmend(*("mend", "--model", own, "--trusted", trusted, "--method", "ft", *settings("ft")))
    mended = load(folder / "mended" / "model")
    assert mended.full_state().keys() == model.full_state().keys()
    front, card_text = card(folder / "mended")
    assert front["library_name"] == "clipmend"
    assert "plain open_clip cannot load" in card_text


def test_a_killed_repair_goes_on_to_the_same_bytes_and_another_call_begins_anew(
    victim: Input,
    pairs: Path,
    clipmend: Any,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    own = ["mend", "--model", victim.folder, "--pairs", pairs, "--method", "ubt", *settings("ubt")]
    clipmend(*own, "--out", "whole")

    def kill(epoch: int, _: object) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    def hooks(label: str, **given: Any) -> Hooks:
        return Hooks(label=label, after_epoch=kill if label == "repairing" else None, **given)

    with monkeypatch.context() as patch:
        patch.setattr(inspection, "Hooks", hooks)
        clipmend(*own, "--out", "cut", status=130)
    (before,) = (folder / "cut" / progress.PROGRESS).iterdir()
    assert list(before.rglob("task0/*"))
    assert [path for path in (folder / "cut").iterdir() if path.name[0] != "."] == []
    # As if it had been killed while it wrote its results.
    (folder / "cut" / "model").mkdir()
    clipmend(*own, "--out", "cut")
    assert "repairing: resumes after epoch 1" in caplog.text
    for name in (f"model/{WEIGHTS}", "finding.json", "suspects.parquet"):
        assert (folder / "cut" / name).read_bytes() == (folder / "whole" / name).read_bytes()
    assert not (folder / "cut" / progress.PROGRESS).exists()

    (folder / "other" / progress.PROGRESS / "0").mkdir(parents=True)
    # Images that outgrow memory make the same model, and leave no copy.
    monkeypatch.setattr(streaming, "_DECODED", 100 * 3 * 32**2)
    clipmend(*own, "--out", "other")
    assert (folder / "other/model" / WEIGHTS).read_bytes() == (
        folder / "whole/model" / WEIGHTS
    ).read_bytes()
    assert not (folder / "other" / progress.PROGRESS).exists()
    (folder / "mixed" / progress.PROGRESS).mkdir(parents=True)
    (folder / "mixed" / "thesis.txt").touch()
    _, error = clipmend(*own, "--out", "mixed", status=2)
    assert "mixed is not empty" in error
    assert (folder / "mixed" / "thesis.txt").exists()


def test_a_model_that_its_last_step_made_useless_is_not_written(
    victim: Input, corpus: Input, clipmend: Any, folder: Path
) -> None:
    one_step = ["--set", "baselines.epochs=1", "--set", "baselines.batch_size=100000"]
    _, error = clipmend(
        *("mend", "--model", victim.folder, "--trusted", corpus.folder, "--method", "ft"),
        *(*one_step, "--set", "baselines.lr=1e30"),
        status=2,
    )
    assert "clipmend: The repaired model gives numbers that are not finite, so it " in error
    assert "--set baselines.lr=1e-5." in error
    assert not (folder / "mended" / "model").exists()
