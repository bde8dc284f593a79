"""Settings that can never work are refused in one line, before any training."""

import json
import shutil
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from clipmend import cli
from clipmend.data.pairs import read_manifest
from clipmend.data.sampling import sample
from clipmend.engine import contradictions, grid, limits, locks, params, plan, presets, runner
from clipmend.engine.index import Index
from clipmend.engine.job import Input
from clipmend.errors import ParamsError

PRESETS = Path(__file__).parents[2] / "params"
SMALL: dict[str, Any] = {"train": 800, "trusted": 100, "val": 100, "test": 200}
DEFAULT = presets.values(PRESETS / "default.yaml")
WORDS: dict[str, Any] = {"path": "data", "classes": ["banana", "cat"]}

REFUSED: list[tuple[str, str, dict[str, Any], str]] = [
    ("pretrain", "mmcl", {"early_epoch": 13}, "early_epoch 13 and epochs 12"),
    ("pretrain", "mmcl_ssl", {"epochs": 2, "early_epoch": 3}, "early_epoch 3 and epochs 2"),
    ("pretrain", "safeclip", {"in_modal_epochs": 31}, "epochs 32 and in_modal_epochs 31"),
    ("pretrain", "mmcl", {"batch_size": 801}, "at least 801 pairs in `train`, but the corpus"),
    ("poison", "badnet", {"poison_rate": 0.0006}, "at least 834 pairs in `train`"),
    ("poison", "badnet", {"size": 32}, "images of the corpus 'scenes' are 32 pixels wide"),
    ("poison", "blended", {"redrawn": True, "pattern": "text"}, "can be redrawn"),
    ("poison", "multi", {"triggers": ["badnet", "badnet"]}, "each trigger is named once"),
    ("poison", "multi", {"triggers": ["sig"], "targets": ["cat"]}, "each trigger is named once"),
    ("detect", "ubt", {"batch_size": 900}, "at least 900 pairs in `train`"),
    ("detect", "ubt", {"neighbors": 800}, "at least 801 pairs in `train`"),
    ("detect", "dao", {"neighbors": 800}, "at least 801 pairs in `train`"),
    ("detect", "slof", {"neighbors": 64, "reference": 64}, "more pairs than `neighbors`"),
    ("detect", "decree", {"images": 1}, "both are at least 2"),
    ("detect", "decree", {"batch_size": 1}, "both are at least 2"),
    ("unlearn", "ubt", {"pairs": 1000}, "pairs 1000 and needs at least 1000 pairs in `train`"),
    ("unlearn", "ubt", {"normal_share": 0.0001}, "at least 5001 pairs in `train`"),
    ("unlearn", "ubt", {"batch_size": 1000}, "at least 1000 pairs in `train`"),
    ("unlearn", "see_through", {"pairs": 1000}, "at least 1000 pairs in `train`"),
    ("unlearn", "abl", {"isolated": 0.9999}, "at least 5001 pairs in `train`"),
    ("unlearn", "pud", {"kept_share": 0.7, "suspect_share": 0.4}, "their sum is at most 1"),
    ("unlearn", "pud", {"detector": "ubt"}, "it starts from the purified model"),
    ("baselines", "ft", {"batch_size": 101}, "at least 101 pairs in `trusted`"),
    ("baselines", "par", {"batch_size": 101}, "at least 101 pairs in `trusted`"),
    ("baselines", "cleanclip", {"pairs": 101}, "at least 101 pairs in `trusted`"),
    ("baselines", "cleanclip", {"clusters": 101}, "at least 101 pairs in `trusted`"),
    ("baselines", "cleanclip", {"pairs": 10, "clusters": 11}, "at least one of the pairs"),
    ("baselines", "cleanclip", {"poisons": 101}, "at least 101 pairs in `trusted`"),
    ("baselines", "cleanclip", {"poisons": 30}, "needs at least 983 pairs in `train`"),
    ("baselines", "cleanclip", {"pairs": 10, "poisons": 11}, "poisons replace some"),
    ("baselines", "cleanclip", {"mmcl_weight": 0, "ssl_weight": 0}, "must be above 0"),
]


def edited(stage: str, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return parameters in which this method alone runs in its stage, as far as that can be."""
    own = {"see_through": "shared_pattern", "abl": "abl", "pud": "pud"}
    detector = settings.get("detector", own.get(name, "ubt") if stage == "unlearn" else "ubt")
    section: dict[str, Any] = {"methods": [name], "settings": {name: settings}}
    values = {
        "seeds": [0],
        "download": {"corpora": ["scenes"], "settings": {"scenes": SMALL}},
        "poison": {**_words(), "methods": ["badnet"]},
        "pretrain": {"model": "scene_resnet", "methods": ["mmcl"]},
        "detect": {"methods": [detector]},
        "unlearn": {"methods": []},
        "baselines": {"methods": []},
        "evaluate": {},
        "report": {},
    }
    return values | {stage: {**values[stage], **section}}  # type: ignore[dict-item]


def _words() -> dict[str, Any]:
    return {"target": "banana", "target_captions": ["a {}"]}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refuse(values: dict[str, Any]) -> None:
    Path("params.yaml").write_text(yaml.safe_dump(values))
    grid.cells(params.load(), Index())


def allow(values: dict[str, Any]) -> limits.Limits:
    """Check parameters as the grid does, without hashing any source."""
    Path("params.yaml").write_text(yaml.safe_dump(values))
    loaded = params.load()
    contradictions.refuse(loaded)
    return limits.limits(loaded)


@pytest.mark.parametrize(("stage", "name", "settings", "message"), REFUSED)
def test_settings_that_can_never_work_are_refused_with_the_parameters(
    stage, name, settings, message
) -> None:
    allow(edited(stage, name, {}))
    with pytest.raises(ParamsError) as refused:
        refuse(edited(stage, name, settings))
    assert message in str(refused.value)
    assert str(refused.value).startswith("params.yaml: ")
    assert "\n" not in str(refused.value)


def test_a_default_that_is_too_large_for_a_small_corpus_means_all_pairs() -> None:
    values = edited("baselines", "ft", {})
    values["download"]["settings"]["scenes"] = SMALL | {"trusted": 50}
    allow(values)
    values["download"]["settings"]["scenes"] = SMALL | {"trusted": 1}
    with pytest.raises(ParamsError, match="needs at least 2 pairs in `trusted`"):
        refuse(values)


def test_poison_among_the_trusted_pairs_is_refused_of_victims_that_have_none() -> None:
    values = edited("baselines", "cleanclip", {"poisons": 1})
    allow(values)
    values["poison"]["methods"] = ["unpoisoned", "badnet"]
    with pytest.raises(ParamsError, match="a victim of `unpoisoned` has no poisoned pair"):
        refuse(values)


def test_the_command_line_refuses_them_with_one_line_and_exit_code_2(monkeypatch, capsys) -> None:
    Path("params.yaml").write_text(yaml.safe_dump(edited("pretrain", "mmcl", {"early_epoch": 99})))
    monkeypatch.setattr(sys, "argv", ["clipmend", "status"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", [path.stem for path in sorted(PRESETS.glob("*.yaml"))])
def test_no_preset_is_refused(name) -> None:
    limits.limits(params.load_preset(name))


def asked(**changed: Any) -> limits.Limits:
    return allow(edited("baselines", "ft", {}) | changed)


@pytest.fixture
def finished(corpus: Input, tmp_path: Path) -> Path:
    return Path(shutil.copytree(corpus.folder, tmp_path / "corpus"))


def cut(path: Path, count: int, label: str | None = None) -> None:
    """Keep the first rows of a split, or give all of its rows one label."""
    rows = pq.read_table(path).slice(0, count)
    if label is not None:
        field = rows.schema.field("label")
        column = rows.schema.get_field_index("label")
        rows = rows.set_column(column, field, pa.array([label] * len(rows), field.type))
    pq.write_table(rows, path)


def test_limits_outlive_the_frozen_plan() -> None:
    limit = asked()
    assert limits.Limits.of(json.loads(json.dumps(limit.document()))) == limit


def test_a_finished_corpus_of_any_source_is_checked_before_poison_and_training(finished) -> None:
    own = {"corpora": ["own"], "settings": {"own": {"source": "pairs", **WORDS}}}
    limit = asked(download=own)
    limits.check_corpus(limit, "own", finished)
    for split in ("trusted", "train"):
        kept = (finished / f"{split}.parquet").read_bytes()
        cut(finished / f"{split}.parquet", 1)
        with pytest.raises(ParamsError, match=f"2 pairs in `{split}`, but the corpus 'own' has 1"):
            limits.check_corpus(limit, "own", finished)
        (finished / f"{split}.parquet").write_bytes(kept)


def test_attacked_images_that_are_all_of_the_target_are_refused(finished) -> None:
    test = read_manifest(finished / "test.parquet")
    (row,) = sample(test["id"].to_pylist(), 1).tolist()
    label = test["label"][row].as_py()
    poison = {"methods": ["badnet"], "target_captions": ["a {}"], "target": label}
    with pytest.raises(ParamsError, match=r"images is 1, and all of .* are of the target"):
        limits.check_corpus(
            asked(evaluate={"adversarial": {"images": 1}}, poison=poison), "scenes", finished
        )
    other = "apple" if label != "apple" else "banana"
    limits.check_corpus(asked(poison=poison | {"target": other}), "scenes", finished)
    none = {"adversarial": {"images": 1, "epsilons": []}}
    limits.check_corpus(asked(evaluate=none, poison=poison), "scenes", finished)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"poison": {**_words(), "target": "zebra", "methods": ["badnet"]}}, "'zebra' is not a"),
        (
            {
                "poison": {
                    **_words(),
                    "methods": ["badnet", "multi"],
                    "settings": {"multi": {"targets": ["zebra"]}},
                }
            },
            "'zebra' is not a class",
        ),
        ({"evaluate": {"adversarial": {"ensemble": True}}}, "needs the library pyautoattack"),
        (
            {"detect": {"methods": ["dao"], "settings": {"dao": {"search": "approximate"}}}},
            "needs the library faiss",
        ),
        (
            {
                "detect": {"methods": ["ubt"]},
                "unlearn": {"methods": ["ubt"], "settings": {"ubt": {"patches": 2}}},
            },
            "patches needs a vision transformer",
        ),
    ],
)
def test_a_corpus_or_an_environment_without_what_a_later_stage_needs_is_refused(
    finished, monkeypatch, change, message
) -> None:
    monkeypatch.setattr(limits, "find_spec", lambda _: None)
    with pytest.raises(ParamsError, match=message):
        limits.check_corpus(asked(**change), "scenes", finished)


def test_an_installed_library_is_found(finished, monkeypatch) -> None:
    monkeypatch.setattr(limits, "find_spec", lambda name: ModuleSpec(name, None))
    limits.check_corpus(asked(evaluate={"adversarial": {"ensemble": True}}), "scenes", finished)
    path = finished / "classes.json"
    few = {"classes": ["banana", "cat", "dog"]}
    path.write_text(json.dumps(json.loads(path.read_text()) | few))
    with pytest.raises(ParamsError, match="needs at least 4 classes"):
        limits.check_corpus(asked(evaluate={"adversarial": {"ensemble": True}}), "scenes", finished)


def test_a_job_before_training_and_the_next_run_refuse_a_corpus_that_is_too_small(
    corpus: Input, monkeypatch
) -> None:
    monkeypatch.setattr(locks, "_held", {})
    shutil.copytree(corpus.folder, "data")
    cut(Path("data/trusted.parquet"), 1)
    paths = {f"{split}_path": f"data/{split}.parquet" for split in SMALL}
    classes = json.loads(Path("data/classes.json").read_text())["classes"]
    own = {"source": "pairs", "classes": classes, **paths}
    values = edited("baselines", "ft", {}) | {
        "device": "cpu",
        "arithmetic": "fastest",
        "download": {"corpora": ["own"], "settings": {"own": own}},
    }
    Path("params.yaml").write_text(yaml.safe_dump(values))
    plan.arrange()
    runner.run("download/own", cores=1)
    message = "needs at least 2 pairs in `trusted`, but the corpus 'own' has 1"
    with pytest.raises(ParamsError, match=message):
        runner.run("poison/own/badnet/seed0", cores=1)
    with pytest.raises(ParamsError, match=message):
        plan.arrange()
    assert Path("results/download/own/card.json").is_file()
    for file in locks._held.values():
        file.close()


def test_bdetclip_with_two_prompts_is_refused_before_training(finished) -> None:
    few = {"scenes": SMALL | {"prompts": ["a {}", "the {}"]}}
    corpora = {"corpora": ["scenes"], "settings": few}
    detect = {"methods": ["ubt", "bdetclip"]}
    message = "'bdetclip' needs at least 3 prompts, but the corpus 'scenes' has 2"
    with pytest.raises(ParamsError, match=message):
        asked(download=corpora, detect=detect)
    path = finished / "classes.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prompts": ["a {}", "the {}"]}))
    with pytest.raises(ParamsError, match=message):  # a corpus whose file has the prompts
        limits.check_corpus(asked(detect=detect), "scenes", finished)


def test_a_linear_probe_without_labels_is_refused_before_training(finished) -> None:
    probe = asked(evaluate={"further": ["linear_probe"]})
    limits.check_corpus(probe, "scenes", finished)
    path = finished / "val.parquet"
    table = pq.read_table(path)
    labels = table["label"].to_pylist()
    table = table.set_column(3, table.schema.field("label"), pa.array([None, *labels[1:]]))
    pq.write_table(table, path)
    with pytest.raises(ParamsError, match="1 of 64 pairs have none, and there are 20 classes"):
        limits.check_corpus(probe, "scenes", finished)
    limits.check_corpus(asked(evaluate={"further": ["retrieval"]}), "scenes", finished)


def test_rvpt_needs_a_vision_transformer_and_labels_before_training(finished) -> None:
    own = {"methods": ["rvpt"], "settings": None}
    with pytest.raises(ParamsError, match="method 'rvpt' needs a vision transformer of open_clip"):
        limits.check_corpus(asked(baselines=own), "scenes", finished)
    on_vit = asked(baselines=own, pretrain={"methods": ["mmcl"], "model": "ViT-B-32"})
    limits.check_corpus(on_vit, "scenes", finished)
    own = {"methods": ["rvpt@late"], "settings": {"rvpt@late": {"first_layer": 12}}}
    late = asked(baselines=own, pretrain={"methods": ["mmcl"], "model": "ViT-B-32"})
    with pytest.raises(ParamsError, match="has first_layer 12, but the image tower"):
        limits.check_corpus(late, "scenes", finished)
    own = {"methods": ["rvpt"], "settings": {"rvpt": {"images_per_class": 60}}}
    many = asked(baselines=own, pretrain={"methods": ["mmcl"], "model": "ViT-B-32"})
    with pytest.raises(ParamsError, match="60 pairs of the rarest class in `trusted`, but"):
        limits.check_corpus(many, "scenes", finished)
    path = finished / "trusted.parquet"
    table = pq.read_table(path)
    nothing = pa.nulls(len(table), table.schema.field("label").type)
    pq.write_table(table.set_column(3, table.schema.field("label"), nothing), path)
    with pytest.raises(ParamsError, match="'rvpt' needs a class for each pair of `trusted`"):
        limits.check_corpus(on_vit, "scenes", finished)
