"""A job runs the code of its key alone, from whatever an earlier job left in its work folder."""

import shutil
from types import ModuleType

import pytest

from clipmend.engine import plan, runner, store
from clipmend.engine.cell import RESULTS
from clipmend.engine.index import Index
from clipmend.engine.job import Job
from clipmend.errors import ArtifactError, PlanError
from tests.engine.conftest import METHOD
from tests.engine.made import EVALUATED, FT

pytestmark = pytest.mark.usefixtures("results")


@pytest.mark.parametrize(
    ("cell", "module"),
    [
        (FT, "methods.repairs.ft"),
        (FT, "methods.attacks.badnet"),
        (EVALUATED, "stages.evaluate"),
        (EVALUATED, "methods.attacks.badnet"),
        (EVALUATED, "methods.repairs.ft"),
    ],
)
def test_code_that_a_job_loads_and_that_was_edited_after_the_plan_is_refused(
    write, monkeypatch, cell, module
) -> None:
    monkeypatch.setattr(runner, "import_module", ModuleType)
    entry = plan.entry(cell)
    runner._load(entry, Index())
    write("methods/detectors/ubt.py", METHOD.format(cls="UBTDetector") + "    other: int = 1\n")
    runner._load(entry, Index())  # which neither job loads
    text = METHOD.format(cls={"badnet": "BadNet", "ft": "FT"}.get(module.rpartition(".")[2], "X"))
    write(f"{module.replace('.', '/')}.py", text.replace("0.1", "0.2"))
    with pytest.raises(PlanError, match=f"^{cell}: clipmend.{module} was edited after the plan"):
        runner._load(entry, Index())


@pytest.mark.parametrize("is_in_the_key", [True, False])
def test_a_module_that_is_gone_is_one_line(monkeypatch, is_in_the_key) -> None:
    entry = plan.entry(FT)
    gone = next(iter(entry.cell.code)) if is_in_the_key else "clipmend.metrics.gone"

    def load(name: str) -> ModuleType:
        raise ModuleNotFoundError(f"No module named {gone!r}, for {name}", name=gone)

    monkeypatch.setattr(runner, "import_module", load)
    why = "was removed after the plan was made" if is_in_the_key else "does not exist; restore"
    with pytest.raises(PlanError, match=f"^{FT}: {gone} {why}"):
        runner._load(entry, Index())


def test_progress_of_another_form_stops_one_run_and_not_the_next(monkeypatch) -> None:
    def run(job: Job) -> None:
        with job.work.joinpath("fit.half").open("w") as file:  # as a checkpoint is written
            file.write("half")
        job.out.joinpath("output.txt").write_text("made")

    stage = ModuleType("stage")
    monkeypatch.setattr(stage, "run", run, raising=False)
    monkeypatch.setattr(runner, "_load", lambda *_: (stage,))
    monkeypatch.setattr(runner.arithmetic, "start", lambda *_: None)
    for folder in (RESULTS / FT, store.STORE):
        shutil.rmtree(folder)
    progress = runner.WORK / plan.entry(FT).cell.key / "progress"
    (progress / "fit.half").mkdir(parents=True)
    with pytest.raises(ArtifactError, match=r"progress of this job .* was deleted; run again"):
        runner.run(FT)
    runner.run(FT)
    assert (RESULTS / FT / "output.txt").read_text() == "made"
