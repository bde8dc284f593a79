"""What the Snakefile refuses and reports; profiles and presets that have to agree."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from clipmend.methods.table import STAGES

ROOT = Path(__file__).parents[2]

PROFILE = {
    "nolock": True,
    "ignore-incomplete": True,
    "rerun-triggers": "mtime",
    "max-checksum-file-size": 0,
}


@pytest.mark.parametrize(
    "profile", sorted(ROOT.glob("workflow/profiles/*/config.yaml")), ids=lambda p: p.parent.name
)
def test_every_profile_leaves_what_is_stale_to_the_plan(profile: Path) -> None:
    settings = yaml.safe_load(profile.read_text())
    assert {name: settings.get(name) for name in PROFILE} == PROFILE


def test_snakemake_finds_the_profiles_at_the_top() -> None:
    assert (ROOT / "profiles").readlink() == Path("workflow/profiles")


def test_dvc_keeps_the_outputs_of_every_stage() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert list(stages) == list(STAGES)
    for name, stage in stages.items():
        (out,) = stage["outs"]
        assert out[f"results/{name}"]["persist"] is True
        assert out[f"results/{name}"].get("cache", True) is (name != "report")


def refusal(finished: Any, **sections: dict[str, Any]) -> str:
    """Return the one line with which a dry run under these parameters ends, at exit code 2."""
    finished.params(**sections)
    try:
        done = finished.call("snakemake", "-n", "all")
    finally:
        finished.params()
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("Using ")]
    return str(line)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"poison": {"trget": "banana"}}, "unknown key poison.trget. Did you mean 'target'?"),
        ({"detect": {"methods": ["upt"]}}, "Unknown detect method 'upt'. Did you mean 'ubt'?"),
        ({"evaluate": {"confidence": 2}}, "evaluate.confidence"),
        ({"pretrain": {"model": "no.json", "methods": ["mmcl"]}}, "pretrain.model is 'no.json'"),
    ],
)
def test_a_mistake_in_params_is_one_line_and_exit_2(
    finished: Any, section: dict[str, Any], message: str
) -> None:
    line = refusal(finished, **section)
    assert line.startswith("clipmend: ")
    assert message in line


@pytest.mark.slow
def test_a_detector_of_the_model_leaves_a_verdict_where_others_leave_scores(project: Any) -> None:
    project.params(detect={"methods": ["ubt", "decree"]})
    target = "results/detect/scenes/badnet/mmcl/seed0/{}"
    made = project.run(target.format("decree/model_score.json"))
    assert made == ["detect/scenes/badnet/mmcl/seed0/decree"]
    assert "detect/scenes/badnet/mmcl/seed0/decree/scores.parquet" not in project.contents()
    assert "detect/scenes/badnet/mmcl/seed0/ubt/scores.parquet" in project.contents()
    for name in ("decree/scores.parquet", "ubt/model_score.json"):
        done = project.call("snakemake", "-n", target.format(name))
        assert done.returncode != 0
        assert "MissingRuleException" in done.stdout + done.stderr


@pytest.mark.slow
def test_unlearning_by_a_verdict_is_refused_before_any_run(finished: Any) -> None:
    settings = {"ubt": {"detector": "decree"}}
    line = refusal(
        finished,
        detect={"methods": ["ubt", "decree"]},
        unlearn={"methods": ["ubt"], "settings": settings},
    )
    assert line.startswith("clipmend: unlearn method 'ubt' reads the scores of detector 'decree'")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workflow-profile", "none"], "other rerun triggers than 'mtime'"),
        (["--config", "seeds=3"], "parameters come from params.yaml alone"),
    ],
)
def test_what_would_go_round_the_plan_is_refused(
    project: Any, arguments: list[str], message: str
) -> None:
    done = project.call("snakemake", "-n", *arguments, "--", "all")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_failed_job_shows_its_one_line_and_leaves_nothing(project: Any) -> None:
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
    done = finished.call("snakemake", "--report", str(page))
    assert done.returncode == 0, done.stderr
    assert "ca_vs_asr.svg" in page.read_text()


@pytest.mark.slow
def test_lint_finds_only_that_rules_bring_no_environment_of_their_own(finished: Any) -> None:
    done = finished.call("snakemake", "--lint")
    lines = (done.stdout + done.stderr).splitlines()
    findings = {line.strip() for line in lines if line.startswith("    * ")}
    assert findings == {"* Specify a conda environment or container for each rule.:"}
