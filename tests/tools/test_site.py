"""The generated pages are in step with code and data, and the site builds without a network."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

from clipmend.methods.table import METHODS, base
from clipmend.tools.site import __main__ as site
from clipmend.tools.site import cards, from_studies, hooks, readme_parts, sources, tables

ROOT = Path(__file__).resolve().parents[2]
NAMES = {name for methods in METHODS.values() for name in methods}


@pytest.fixture(scope="module")
def pages() -> dict[Path, str]:
    return site.pages(ROOT)


def test_every_generated_page_is_in_step_with_the_code_and_the_results(pages) -> None:
    stale = [str(path) for path, text in pages.items() if (ROOT / path).read_text() != text]
    assert stale == [], "run `make pages`"
    written = {path.relative_to(ROOT) for path in (ROOT / cards.FOLDER).rglob("*.md")}
    assert written <= pages.keys()


def test_a_page_that_is_out_of_date_is_named_and_written_anew(
    tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(site, "pages", lambda _: {Path("docs/page.md"): "new\n"})
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/page.md").write_text("old\n")
    assert site.main(["--check", "--root", str(tmp_path)]) == 1
    assert "make pages" in capsys.readouterr().err
    assert site.main(["--root", str(tmp_path)]) == 0
    assert site.main(["--check", "--root", str(tmp_path)]) == 0


def test_every_page_of_results_names_its_files_and_their_revision(pages) -> None:
    for path, text in pages.items():
        if path.parent == Path("docs/results"):
            assert "## Data" in text, path
            assert re.search(r"\.(csv|json)`\]\(", text), path


def test_every_method_has_a_page_with_its_settings(pages) -> None:
    for stage, methods in METHODS.items():
        for name in methods:
            text = pages[cards.path_of(stage, name)]
            assert "## Idea" in text
            assert "## Settings" in text


def test_every_method_that_the_page_of_differences_names_exists() -> None:
    assert cards.differences(ROOT).keys() <= NAMES | {"variants", "clusters", "shrink"}


def test_every_committed_result_has_its_page_and_presets_and_known_methods() -> None:
    for source in sources.sources():
        assert (ROOT / source.page).is_file()
        assert all((ROOT / "params" / f"{name}.yaml").is_file() for name in source.presets)
        assert {base(name) for name in source.names.values()} <= NAMES


def cells(method: str, changes: list[float], rates: list[float], **more: object) -> pd.DataFrame:
    """Return repaired victims of one method: `badnet` and `blended`, seeds 0 and 1."""
    rows = pd.MultiIndex.from_product([["badnet", "blended"], [0, 1]], names=["attack", "seed"])
    own = {"corpus": "scenes", "objective": "mmcl", "method": method, "control": False,
           "needs": "train", "form": "", "source": "here", "before": 1.0,
           "target_change": 0.0, "triggered_accuracy": 0.5}  # fmt: skip
    frame = pd.DataFrame({"change": changes, "attack_success_rate": rates}, index=rows)
    frame = frame.reset_index().assign(**(own | more))
    frame["trigger"], frame["stage"] = frame["attack"], "unlearn"
    frame["clean_accuracy"] = 0.9 + frame["change"]
    return frame


def test_the_recommended_repair_is_safe_on_every_victim_and_keeps_the_most_accuracy() -> None:
    found = tables.compared(
        pd.concat([
            cells("cheap", [0.0] * 4, [0.0, 0.0, 0.0, 0.9]),
            cells("dear", [-0.1] * 4, [0.0] * 4),
            cells("fair", [-0.02] * 4, [0.01, 0.02, 0.03, 0.04]),
            cells("oracle", [0.1] * 4, [0.0] * 4, control=True),
        ]),
        "scenes",
    )  # fmt: skip
    assert list(found["method"]) == ["fair", "dear", "cheap"]
    assert found.iloc[0]["worst"] == 0.04
    assert found.iloc[0]["asr"] == pytest.approx(0.025)


def test_a_repair_that_never_failed_on_all_attacks_is_recommended_first() -> None:
    everywhere = pd.concat(
        [cells("tried", [-0.1] * 4, [0.0] * 4, attack=name) for name in tables.attacks()]
    )
    few = cells("few", [0.1] * 4, [0.0] * 4)
    failing = pd.concat([few, few.assign(attack="sig", attack_success_rate=1.0)])
    failing["method"] = "failing"
    found = tables.compared(pd.concat([few, failing, everywhere]), "scenes")
    assert list(found["method"]) == ["tried", "few", "failing"]
    assert list(found["attacks"]) == [9, 2, 3]
    assert list(found["failures"]) == [0, 0, 4]


def test_a_repair_that_harms_clean_models_is_not_recommended_before_one_that_does_not() -> None:
    harmful = cells("harmful", [0.05] * 4, [0.0] * 4)
    harmed = harmful.assign(attack="unpoisoned", before=np.nan, change=-0.2)
    kind = cells("kind", [-0.01] * 4, [0.0] * 4)
    found = tables.compared(pd.concat([harmful, harmed, kind]), "scenes")
    assert list(found["method"]) == ["kind", "harmful"]
    assert found.set_index("method")["clean_change"]["harmful"] == pytest.approx(-0.2)


def test_a_model_that_two_results_list_counts_once() -> None:
    own = cells("ubt", [-0.01] * 4, [0.0, 0.1, 0.2, 0.3])
    (row,) = tables.compared(pd.concat([own, own.assign(source="there")]), "scenes").to_dict(
        "records"
    )
    assert row["n"] == 4


def test_a_study_has_a_table_on_the_pages_once_it_is_committed(tmp_path: Path) -> None:
    assert from_studies.rebound(tmp_path) == from_studies.inputs(tmp_path) == ""
    rebound = tmp_path / from_studies.REBOUND
    rebound.parent.mkdir(parents=True)
    rebound.write_text(
        "attack,trigger,method,asr_before,asr_highest,asr_control,comes_back\n"
        "badnet,badnet,none,1.0,1.0,0.0,False\n"
        "badnet,badnet,ubt,0.0,0.4,0.0,True\n"
        "badclip,badclip,none,0.9,0.9,,False\n"
        "unpoisoned,badnet,none,0.0,0.0,0.0,False\n"
    )
    assert from_studies.rebound(tmp_path).splitlines()[2:] == [
        "| `none` | 90.0 / 90.0 | 100.0 / 100.0 |",
        "| `ubt` |  | 0.0 / 40.0 * |",
    ]
    inputs = tmp_path / from_studies.INPUTS
    inputs.parent.mkdir(parents=True)
    inputs.write_text(
        "objective,trigger,method,auroc,tpr,fpr\n"
        "mmcl,badnet,strip,0.9,0.5,0.05\nmmcl,,strip,,,0.07\n"
    )
    (row,) = from_studies.inputs(tmp_path).splitlines()[2:]
    assert row == "| `strip` | `mmcl` | 0.90 | 6.0 | 50.0 |"


def test_the_readme_fits_on_a_few_screens_and_shows_the_counts_of_the_table() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    assert readme_parts.counts() in text
    assert f"{len(METHODS['detect'])} detectors" in text


@pytest.mark.slow
def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path) -> None:
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path)))
    made = sorted(tmp_path.rglob("*.html"))
    assert (tmp_path / hooks.OUTSIDE / "studies/README.html") in made or (
        tmp_path / hooks.OUTSIDE / "studies/index.html"
    ) in made
    for page in made:
        loaded = re.findall(r"<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=\"(https?:[^\"]+)",
                            page.read_text(encoding="utf-8"))  # fmt: skip
        assert loaded == [], page
