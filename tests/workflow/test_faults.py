"""After any fault, a run ends with the bytes of a project that had none (see ``faults.py``)."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.workflow import conftest

pytestmark = pytest.mark.slow

# Kills and other faults; `make faults` makes more of them.
TRIALS = os.environ.get("CLIPMEND_FAULTS", "25 15").split()


def test_after_faults_the_bytes_are_those_of_a_calm_run(tmp_path: Path) -> None:
    project: Any = conftest.build(tmp_path)
    for name, rate in (("a", 0.1), ("b", 0.7)):
        project.params(baselines={"methods": ["ft"], "settings": {"ft": {"rate": rate}}})
        (tmp_path / "params.yaml").rename(tmp_path / f"params.{name}.yaml")
    done = project.call(sys.executable, str(Path(__file__).with_name("faults.py")), *TRIALS, "0")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    assert f"{TRIALS[0]} kills" in done.stdout
    assert "; 0 wrong" in done.stdout
