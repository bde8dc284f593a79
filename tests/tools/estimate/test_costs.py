"""A job that was not timed takes what jobs like it took."""

from pathlib import Path

import pytest

from clipmend.tools.estimate.costs import START, Figure, extrapolated, figures, wall_time
from clipmend.tools.estimate.forecast import summed

VICTIMS = [f"scenes/badnet/mmcl/seed{seed}" for seed in range(3)]
FT, CLEANED = (f"baselines/{VICTIMS[0]}/{name}" for name in ("ft", "cleanclip"))


def test_a_like_job_s_time_beyond_its_start_is_scaled_by_what_is_to_be_done() -> None:
    jobs = [f"pretrain/{victim}" for victim in VICTIMS]
    work = {jobs[0]: 100.0, jobs[1]: 100.0, jobs[2]: 300.0}
    found = figures(jobs, {jobs[0]: START + 10, jobs[1]: START + 20}, work)
    assert found[jobs[0]] == Figure(START + 10, "measured")
    assert found[jobs[2]] == Figure(START + 3 * 15, "extrapolated")  # the median of 30 and 60


def test_a_job_that_took_less_than_a_start_is_all_start() -> None:
    jobs = [f"pretrain/{victim}" for victim in VICTIMS[:2]]
    found = figures(jobs, {jobs[0]: 2.0}, {jobs[0]: 1.0, jobs[1]: 50.0})
    assert found[jobs[1]].value == 2.0


def test_a_job_that_was_timed_under_other_settings_is_not_measured() -> None:
    job = f"pretrain/{VICTIMS[0]}"
    found = figures([job], {job: START + 10}, {job: 200.0}, {job: 100.0})
    assert found[job] == Figure(START + 20, "extrapolated")


def test_without_knowing_what_is_to_be_done_nothing_is_scaled() -> None:
    jobs = [f"pretrain/{victim}" for victim in VICTIMS[:2]]
    assert figures(jobs, {jobs[0]: 70.0}, {jobs[1]: 9.0})[jobs[1]].value == 70.0


def test_no_like_job_is_no_figure() -> None:
    cost = extrapolated([FT, CLEANED], {FT: 30.0, "baselines/photos/a/b/seed0/cleanclip": 1.0})
    assert (cost.measured, cost.total, cost.timed, cost.jobs, cost.unlike) == (30, 30, 1, 2, 1)


def test_sums_say_how_many_jobs_they_rest_on_and_how_many_they_lack() -> None:
    known = {"a": Figure(1.0, "measured"), "b": Figure(2.0, "assumed")}
    found = summed(["a", "b", "c"], known, {"b", "c"})
    assert (found.remaining, found.whole, found.unknown) == (2.0, 3.0, 1)
    assert found.rest_on == {"measured": 1, "assumed": 1}


@pytest.mark.parametrize("said", ["taken from the store", "is made already"])
def test_a_job_that_made_nothing_has_no_time(tmp_path: Path, said: str) -> None:
    tsv, log = tmp_path / "ft.tsv", tmp_path / "ft.log"
    assert wall_time(tsv, log) is None
    tsv.write_text("s\th:m:s\n12.5\t0:00:12\n")
    assert wall_time(tsv, log) == 12.5
    log.write_text(f"baselines: {said}\n")
    assert wall_time(tsv, log) is None
    tsv.write_text("s\th:m:s\n")
    log.unlink()
    assert wall_time(tsv, log) is None
