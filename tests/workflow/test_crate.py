"""The exported crate meets the profiles of Workflow Run RO-Crate."""

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

pytestmark = pytest.mark.slow

PROFILES = [
    f"https://w3id.org/ro/wfrun/{name}/0.5" for name in ("process", "workflow", "provenance")
]
EXTERNAL = ("http://", "https://")


@pytest.fixture(scope="module")
def crate(finished: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crate") / "run"
    finished.succeed("clipmend", "export-crate", str(folder))
    return folder


@pytest.fixture(scope="module")
def entities(crate: Path) -> dict[str, dict[str, Any]]:
    graph = json.loads((crate / "ro-crate-metadata.json").read_text())["@graph"]
    by_id = {entity["@id"]: entity for entity in graph}
    assert len(by_id) == len(graph)
    return by_id


def of_type(entities: dict[str, dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [e for e in entities.values() if kind in listed(e["@type"])]


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def ids(value: Any) -> list[str]:
    return [reference["@id"] for reference in listed(value)]


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        if set(value) == {"@id"}:
            return [value["@id"]]
        value = list(value.values())
    return (
        [name for inner in value for name in references(inner)] if isinstance(value, list) else []
    )


def test_the_root_names_the_profiles_and_has_the_required_fields(entities: Any) -> None:
    root = entities["./"]
    assert set(PROFILES) <= set(ids(root["conformsTo"]))
    assert all(entities[profile]["@type"] == "CreativeWork" for profile in PROFILES)
    assert {"name", "description", "datePublished", "license"} <= root.keys()
    described = entities["ro-crate-metadata.json"]
    assert ids(described["about"]) == ["./"]
    assert "https://w3id.org/ro/crate/1.1" in ids(described["conformsTo"])


def test_the_workflow_is_the_main_entity_and_the_instrument_of_the_run(entities: Any) -> None:
    (main,) = ids(entities["./"]["mainEntity"])
    kinds = {"File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"}
    assert kinds <= set(entities[main]["@type"])
    assert entities[ids(entities[main]["programmingLanguage"])[0]]["@type"] == "ComputerLanguage"
    runs = [a for a in of_type(entities, "CreateAction") if ids(a["instrument"]) == [main]]
    assert len(runs) == 1
    assert runs[0]["@id"] in ids(entities["./"]["mentions"])
    assert "results/report/cells.csv" in ids(runs[0]["result"])


def test_each_cell_is_an_execution_of_a_tool_that_the_workflow_has(
    entities: Any, finished: Any
) -> None:
    main = entities[ids(entities["./"]["mainEntity"])[0]]
    tools = set(ids(main["hasPart"]))
    assert all("SoftwareApplication" in listed(entities[tool]["@type"]) for tool in tools)
    cells = {name.removesuffix("/card.json") for name in finished.contents() if "card.json" in name}
    actions = [a for a in of_type(entities, "CreateAction") if set(ids(a["instrument"])) <= tools]
    assert {action["name"] for action in actions} == cells
    victim = entities["#pretrain/scenes/badnet/mmcl/seed0"]
    assert "results/poison/scenes/badnet/seed0/overlay.parquet" in ids(victim["object"])
    assert "results/pretrain/scenes/badnet/mmcl/seed0/model.safetensors" in ids(victim["result"])


def test_steps_and_the_engine_refer_to_the_entities_of_the_profile(entities: Any) -> None:
    main = entities[ids(entities["./"]["mainEntity"])[0]]
    steps = set(ids(main["step"]))
    for step in steps:
        assert entities[step]["@type"] == "HowToStep"
        assert ids(entities[step]["workExample"])[0] in ids(main["hasPart"])
    controls = of_type(entities, "ControlAction")
    for control in controls:
        assert ids(control["instrument"])[0] in steps
        assert entities[ids(control["object"])[0]]["@type"] == "CreateAction"
    (engine,) = of_type(entities, "OrganizeAction")
    assert set(ids(engine["object"])) == {control["@id"] for control in controls}
    assert entities[ids(engine["result"])[0]]["@type"] == "CreateAction"
    assert "SoftwareApplication" in listed(entities[ids(engine["instrument"])[0]]["@type"])


def test_every_reference_and_every_file_exists(entities: Any, crate: Path) -> None:
    for entity in entities.values():
        for name in references({k: v for k, v in entity.items() if k != "@id"}):
            assert name in entities or name.startswith(EXTERNAL), name
    files = [e for e in of_type(entities, "File") if "sha256" in e]
    assert files
    for entity in files:
        text = (crate / unquote(entity["@id"])).read_bytes()
        assert hashlib.sha256(text).hexdigest() == entity["sha256"]


def test_files_that_are_left_out_are_named_by_their_hash(finished: Any, tmp_path: Path) -> None:
    finished.succeed("clipmend", "export-crate", str(tmp_path / "run"), "--no-artifacts")
    assert (tmp_path / "run/results/report/cells.csv").is_file()
    assert not (tmp_path / "run/results/pretrain").exists()
    text = (tmp_path / "run/ro-crate-metadata.json").read_text()
    assert "ni:///sha-256;" in text


def test_an_unfinished_or_damaged_run_is_refused_in_one_line(project: Any, tmp_path: Path) -> None:
    def refused(message: str, folder: str = "run") -> None:
        done = project.call("clipmend", "export-crate", str(tmp_path / folder))
        assert done.returncode == 2
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1

    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").touch()
    refused("is not empty", "full")
    model = project.root / "results/pretrain/scenes/badnet/mmcl/seed0/model.safetensors"
    model.unlink()
    refused("pretrain/scenes/badnet/mmcl/seed0 cannot be exported: model.safetensors is missing")
    (model.parent / "card.json").unlink()
    refused("The run is not finished: pretrain/scenes/badnet/mmcl/seed0 is missing")
    (project.root / "results/report/card.json").unlink()
    refused("results/report has no finished report")
