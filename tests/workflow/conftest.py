"""A copy of the project whose stages are stubs: a job takes no time and leaves a line behind."""

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from clipmend.data.artifacts import OUTPUTS
from clipmend.methods.table import FOLDERS, METHODS, STAGES, scores_model
from clipmend.report import contents

ROOT = Path(__file__).parents[2]

FILES = {
    **{stage: list(OUTPUTS[stage].values()) for stage in STAGES[:-1]},
    "unlearn": [*OUTPUTS["unlearn"].values(), "chosen.parquet", "finding.json"],
    "report": [
        *contents.FILES,
        "index.html",
        *(f"{name}.{kind}" for name in contents.FIGURES for kind in ("svg", "png")),
    ],
}

STAGE = '''"""A stub that writes what its settings and inputs determine."""

import hashlib
import os
import time
from pathlib import Path

from clipmend.data import shared_by_all
from clipmend.engine.job import Job

FILES = {files!r}


def run(job: Job) -> None:
    with Path("ran.log").open("a") as log:
        log.write(f"{{job.cell}}\\n")
    while Path(f"hang-{{job.stage}}").exists():
        time.sleep(0.05)
    made = hashlib.sha256(repr((job.method, job.seed, job.settings, job.shared)).encode())
    made.update(shared_by_all.VERSION.encode())
    for name, cell in sorted(job.inputs.items()):
        for path in sorted(cell.folder.rglob("*")):
            if path.is_file() and path.name != "card.json":
                made.update(path.read_bytes())
    for name in FILES:
        text = '<svg xmlns="http://www.w3.org/2000/svg"/>' if name.endswith(".svg") else ""
        job.out.joinpath(name).write_text(text + made.hexdigest() + name)
    for number in range(2 if "rows_per_shard" in job.shared else 0):
        path = job.out / f"train/{{number:05d}}.parquet"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{{made.hexdigest()}} {{number}}")
'''

REPORT = (
    STAGE
    + '''

_write_all = run
KEY = ("corpus", "attack", "objective", "seed", "method", "trigger")


def run(job: Job) -> None:
    """Write also what an audit reads: cards, code, and a number for each evaluated cell."""
    from clipmend.report.cards import cards_lines, code_parts

    _write_all(job)
    inputs = job.inputs.values()
    job.out.joinpath("cards.jsonl").write_text(cards_lines(inputs))
    job.out.joinpath("code.json").write_text(code_parts(inputs))
    lines = [",".join((*KEY, "clean_accuracy", "attack_success_rate"))]
    for cell in (given.folder for given in inputs if given.stage == "evaluate"):
        path = cell.relative_to("results/evaluate").as_posix().replace("/seed", "/").split("/")
        rates = hashlib.sha256(cell.joinpath("metrics.json").read_bytes()).digest()
        lines.append(",".join((*path, f"{{rates[0] / 256}}", f"{{rates[1] / 256}}")))
    job.out.joinpath("cells.csv").write_text("\\n".join(lines) + "\\n")
    rate = hashlib.sha256("".join(lines).encode()).digest()[0] / 256
    job.out.joinpath("metrics.json").write_text(f'{{{{"rate": {{rate}}}}}}')
'''
)

METHOD = '''"""A stub method."""

from dataclasses import dataclass

from clipmend.methods.settings import DetectorName, Fraction


@dataclass(frozen=True)
class {cls}:
    """Has settings, and one of them names a detector where the stage is unlearn."""

    rate: Fraction = 0.1
    {extra}
'''

PARAMS = {
    "seeds": [0],
    "device": "cpu",
    "download": {"corpora": ["scenes"]},
    "poison": {
        "target": "banana",
        "target_captions": ["a photo of a {}"],
        "methods": ["unpoisoned", "badnet"],
    },
    "pretrain": {"model": "stub", "methods": ["mmcl"]},
    "detect": {"methods": ["ubt"]},
    "unlearn": {"methods": ["ubt", "ubt@random"], "settings": {"ubt@random": {"rate": 0.2}}},
    "baselines": {"methods": ["ft"]},
    "evaluate": {"confidence": 0.95},
    "report": {"gallery": 6},
}


@dataclass
class Project:
    """A project folder, and what its jobs did since one last looked."""

    root: Path

    @property
    def printed(self) -> Path:
        return self.root / ".clipmend/printed"

    @property
    def env(self) -> dict[str, str]:
        bin_folder = Path(sys.executable).parent
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith("GIT_")},
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.root / "src"),
            "CLIPMEND_PATIENCE": "0.5",
        }

    def call(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.root, env=self.env, text=True, capture_output=True, check=False
        )

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Begin a command in a process group of its own; what it prints goes to ``printed``."""
        with self.printed.open("w") as printed:
            return subprocess.Popen(
                command,
                cwd=self.root,
                env=self.env,
                text=True,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, *arguments: str) -> list[str]:
        """Run Snakemake to the end and return the cells whose jobs really ran."""
        return self.ran(self.call("snakemake", "--cores", "2", *(arguments or ("all",))))

    def repro(self) -> list[str]:
        return self.ran(self.call("dvc", "repro"))

    def ran(self, done: subprocess.CompletedProcess[str]) -> list[str]:
        assert done.returncode == 0, done.stdout + done.stderr
        log = self.root / "ran.log"
        cells = log.read_text().split() if log.exists() else []
        log.unlink(missing_ok=True)
        twice = [cell for cell, count in Counter(cells).items() if count > 1]
        assert not twice, f"made twice in one run: {twice}"
        return sorted(cells)

    def planned(self) -> bool:
        """Say whether a dry run finds anything to do."""
        done = self.call("snakemake", "-n", "all")
        assert done.returncode == 0, done.stdout + done.stderr
        return "Nothing to be done" not in done.stdout + done.stderr

    def params(self, **sections: object) -> None:
        """Write ``params.yaml`` with these sections changed."""
        path = self.root / "params.yaml"
        path.write_text(yaml.safe_dump({**PARAMS, **sections}, sort_keys=False))

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.root / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def wait_for(self, text: str) -> None:
        """Wait until a job of this stage has begun."""
        log = self.root / "ran.log"
        deadline = time.monotonic() + 60
        while not (log.exists() and text in log.read_text()):
            assert time.monotonic() < deadline, f"no job of {text} began"
            time.sleep(0.05)

    def contents(self) -> dict[str, bytes]:
        results = self.root / "results"
        return {
            path.relative_to(results).as_posix(): path.read_bytes()
            for path in results.rglob("*")
            if path.is_file()
        }


def copy_engine(package: Path) -> None:
    """Copy what decides what runs: the very code that is tested."""
    for name in ("engine", "tools"):
        shutil.copytree(ROOT / "src/clipmend" / name, package / name)
    for name in ("__init__.py", "__main__.py", "cli.py", "errors.py"):
        shutil.copy(ROOT / "src/clipmend" / name, package)
    for name in ("methods/table.py", "methods/settings.py", "data/artifacts.py"):
        (package / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / "src/clipmend" / name, package / name)


def stage_text(stage: str) -> str:
    """Return a stage's runner; two of them import what the others do not."""
    text = REPORT if stage == "report" else STAGE
    if stage in ("detect", "baselines"):
        imported = "from clipmend.data import shared_by_all"
        text = text.replace(imported, f"from clipmend.model import shared_by_two\n{imported}")
        text = text.replace("shared_by_all.VERSION.", "shared_by_two.VERSION.")
    if stage == "detect":
        text = text.replace("in FILES:", "in VERDICT if job.method in JUDGES else FILES:")
        judges = tuple(name for name in METHODS["detect"] if scores_model(name))
        constants = f'JUDGES = {judges!r}\nVERDICT = ["model_score.json"]'
        text = text.replace("FILES = {files!r}", f"FILES = {{files!r}}\n{constants}")
    return text.format(files=FILES[stage])


def build(root: Path) -> Project:
    """Write the project with stub stages into an empty folder."""
    for name in ("Snakefile", "dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, root / name)
    shutil.copytree(ROOT / "workflow", root / "workflow")
    (root / "profiles").symlink_to("workflow/profiles")
    (root / "data").mkdir()
    package = root / "src/clipmend"
    package.mkdir(parents=True)
    copy_engine(package)
    stub(package / "data" / "shared_by_all.py", '"""Shared."""\n\nVERSION = "1"\n')
    stub(package / "model" / "shared_by_two.py", '"""Shared."""\n\nVERSION = "1"\n')
    for stage in STAGES:
        stub(package / "stages" / f"{stage}.py", stage_text(stage))
    for name in contents.FIGURES:
        stub(package / "report/figures" / f"{name}.py", '"""Stub."""\n\nCAPTION = "A caption."\n')
    for name in ("cards.py", "contents.py"):
        shutil.copy(ROOT / "src/clipmend/report" / name, package / "report" / name)
    for stage, methods in METHODS.items():
        for name, method in methods.items():
            path = package / "methods" / FOLDERS[stage] / f"{name}.py"
            stub(path, METHOD.format(cls=method.cls, extra=extra(stage, name)))
    project = Project(root)
    project.params()
    return project


def extra(stage: str, name: str) -> str:
    """Return what a method's stub has besides its setting."""
    if stage == "unlearn":
        return 'detector: DetectorName = "ubt"'
    is_model_level = stage == "detect" and scores_model(name)
    return 'def __call__(self) -> "Verdict": ...' if is_model_level else ""


def stub(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in git and DVC whose whole graph was run once; copied, never changed."""
    project = build(tmp_path_factory.mktemp("finished"))
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")
    for command in (
        ("git", "init", "-q"),
        ("dvc", "init", "-q"),
        (*git, "add", "-A"),
        (*git, "commit", "-qm", "begin"),
    ):
        done = project.call(*command)
        assert done.returncode == 0, done.stderr
    assert project.run()
    return project


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A finished project of one's own; inodes differ from all records, hard links are kept."""
    subprocess.run(
        ["cp", "-a", finished.root, tmp_path / "project"], check=True
    )  # keeps hard links
    return Project(tmp_path / "project")


@pytest.fixture
def empty(finished: Project, tmp_path: Path) -> Project:
    """A fresh clone: nothing made, no store, no records."""
    root = tmp_path / "clone"
    done = finished.call("git", "clone", "-q", str(finished.root), str(root))
    assert done.returncode == 0, done.stderr
    (root / "data").mkdir(exist_ok=True)
    return Project(root)
