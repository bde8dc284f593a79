"""The errors and reports of the Snakefile, and the settings that its profiles share."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]

PROFILE = {
    "nolock": True,
    "ignore-incomplete": True,
    "rerun-triggers": "mtime",
    "max-checksum-file-size": 0,
}


every_profile = pytest.mark.parametrize(
    "profile", sorted(ROOT.glob("workflow/profiles/*/config.yaml")), ids=lambda p: p.parent.name
)


@every_profile
def test_every_profile_lets_the_plan_decide_which_cells_are_stale(profile: Path) -> None:
    settings = yaml.safe_load(profile.read_text())
    assert {name: settings.get(name) for name in PROFILE} == PROFILE


@every_profile
def test_every_profile_gives_resources_to_rules_that_exist(profile: Path) -> None:
    settings = yaml.safe_load(profile.read_text())
    named = {*settings.get("set-resources", {}), *settings.get("set-threads", {})}
    texts = [path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk")]
    rules = {name for text in texts for name in re.findall(r"^rule (\w+):", text, re.MULTILINE)}
    assert named <= rules


def test_the_profiles_are_where_snakemake_looks_for_them() -> None:
    assert (ROOT / "profiles").readlink() == Path("workflow/profiles")


def test_dvc_keeps_the_files_of_every_stage_and_leaves_the_report_to_git() -> None:
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        (out,) = stage["outs"]
        assert out[f"results/{name}"]["persist"] is True
        assert out[f"results/{name}"].get("cache", True) is (name != "report")


@pytest.mark.slow
def test_a_model_detector_writes_a_model_score_and_other_detectors_write_scores(
    project: Any,
) -> None:
    project.params(detect={"methods": ["ubt", "decree"]})
    target = "results/detect/scenes/badnet/mmcl/seed0/{}"
    ran = project.run(target.format("decree/model_score.json"))
    assert ran == ["detect/scenes/badnet/mmcl/seed0/decree"]
    assert "detect/scenes/badnet/mmcl/seed0/decree/scores.parquet" not in project.contents()
    assert "detect/scenes/badnet/mmcl/seed0/ubt/scores.parquet" in project.contents()
    project.params(detect={"methods": ["ubt", "strip"]})
    assert project.run(target.format("strip/input_scores.parquet")) == [
        "detect/scenes/badnet/mmcl/seed0/strip"
    ]
    for name in ("strip/scores.parquet", "ubt/input_scores.parquet", "ubt/model_score.json"):
        done = project.call("snakemake", "-n", target.format(name))
        assert done.returncode != 0
        assert "MissingRuleException" in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workflow-profile", "none"], "other rerun triggers than 'mtime'"),
        (["--config", "seeds=3"], "parameters come from params.yaml alone"),
    ],
)
def test_an_option_that_overrides_the_plan_is_refused(
    project: Any, arguments: list[str], message: str
) -> None:
    done = project.call("snakemake", "-n", *arguments, "--", "all")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_failed_job_prints_one_line_and_leaves_no_file(project: Any) -> None:
    project.edit(
        "src/clipmend/stages/report.py",
        "    for name in FILES:",
        "    from clipmend.errors import MetricError\n"
        "    job.out.joinpath('table.md').write_text('half')\n"
        "    raise MetricError('No number is defined here.')\n"
        "    for name in FILES:",
    )
    done = project.call("snakemake", "--cores", "1", "all")
    assert done.returncode == 1
    assert "clipmend: No number is defined here." in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not [name for name in project.contents() if name.startswith("report/")]


@pytest.mark.slow
def test_snakemake_makes_its_own_report(finished: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    finished.succeed("snakemake", "--report", str(page))
    assert "ca_vs_asr.svg" in page.read_text()


@pytest.mark.slow
def test_lint_reports_only_that_rules_have_no_environment_of_their_own(finished: Any) -> None:
    done = finished.call("snakemake", "--lint")
    lines = (done.stdout + done.stderr).splitlines()
    findings = {line.strip() for line in lines if line.startswith("    * ")}
    assert findings == {"* Specify a conda environment or container for each rule.:"}
