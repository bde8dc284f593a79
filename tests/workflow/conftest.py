"""A copy of the project whose stages are stubs: a job takes no time and logs one line."""

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

from clipmend.data.input_artifacts import OUTPUTS
from clipmend.methods.table import FOLDERS, METHODS, STAGES, scores_of
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

STAGE = '''"""A stub whose outputs depend on its settings and inputs alone."""

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
    digest = hashlib.sha256(repr((job.method, job.seed, job.settings, job.shared)).encode())
    digest.update(shared_by_all.VERSION.encode())
    for name, cell in sorted(job.inputs.items()):
        for path in sorted(cell.folder.rglob("*")):
            if path.is_file() and path.name != "card.json":
                digest.update(path.read_bytes())
    for name in FILES:
        text = '<svg xmlns="http://www.w3.org/2000/svg"/>' if name.endswith(".svg") else ""
        job.out.joinpath(name).write_text(text + digest.hexdigest() + name)
    for number in range(2 if "rows_per_shard" in job.shared else 0):
        path = job.out / f"train/{{number:05d}}.parquet"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{{digest.hexdigest()}} {{number}}")
'''

REPORT = (
    STAGE
    + '''

_write_all = run
KEY = ("corpus", "attack", "objective", "seed", "method", "trigger")


def run(job: Job) -> None:
    """Write also the files of an audit: cards, code, and two numbers for each evaluation."""
    from clipmend.report.cards import cards_lines, code_parts

    _write_all(job)
    inputs = job.inputs.values()
    job.out.joinpath("cards.jsonl").write_text(cards_lines(inputs))
    job.out.joinpath("code.json").write_text(code_parts(inputs))
    lines = [",".join((*KEY, "clean_accuracy", "attack_success_rate"))]
    for cell in (cell for cell in inputs if cell.stage == "evaluate"):
        fields = [str(getattr(cell.place, name)) for name in KEY]
        rates = hashlib.sha256(cell.folder.joinpath("metrics.json").read_bytes()).digest()
        lines.append(",".join((*fields, f"{{rates[0] / 256}}", f"{{rates[1] / 256}}")))
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
    """A method with one setting; a repair of ``unlearn`` also names a detector."""

    rate: Fraction = 0.1
    {extra}
'''
DETECTOR = 'detector: DetectorName = "ubt"'

PARAMS = {
    "seeds": [0],
    "device": "cpu",
    "arithmetic": "fastest",  # stubs compute nothing, so no library is tested
    "download": {"corpora": ["scenes"]},
    "poison": {
        "target": "banana",
        "target_captions": ["a photo of a {}"],
        "methods": ["unpoisoned", "badnet"],
    },
    "pretrain": {"model": "RN50", "methods": ["mmcl"]},
    "detect": {"methods": ["ubt"]},
    "unlearn": {"methods": ["ubt", "ubt@random"], "settings": {"ubt@random": {"rate": 0.2}}},
    "baselines": {"methods": ["ft"]},
    "evaluate": {"confidence": 0.95},
    "report": {"gallery": 6},
}


VICTIMS = [f"scenes/{attack}/mmcl/seed0" for attack in ("badnet", "unpoisoned")]
GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")


@dataclass
class Project:
    """A project folder; each run returns the cells whose jobs ran since the run before."""

    root: Path

    @staticmethod
    def branch(repair: str, stage: str = "baselines") -> list[str]:
        """Return the cells of a repair, and all cells that depend on them."""
        cells = [f"{stage}/{victim}/{repair}" for victim in VICTIMS]
        return sorted(
            [*cells, *(f"evaluate/{victim}/{repair}/badnet" for victim in VICTIMS), "report"]
        )

    def copy(self, folder: Path) -> "Project":
        """Return a copy in a folder that does not exist; hard links become files."""
        shutil.copytree(self.root, folder, symlinks=True)
        return Project(folder)

    def clone(self, folder: Path) -> "Project":
        self.succeed("git", "clone", "-q", str(self.root), str(folder))
        (folder / "data").mkdir(exist_ok=True)
        return Project(folder)

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

    def succeed(self, *command: str) -> str:
        """Run a command that must succeed, and return what it prints."""
        done = self.call(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def commit(self, message: str) -> None:
        """Commit all files and give the commit a tag of the same name."""
        self.succeed("git", "add", "-A")
        self.succeed(*GIT, "commit", "-qm", message)
        self.succeed("git", "tag", message)

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command in a process group of its own; its output goes to ``printed``."""
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
        """Run Snakemake to its end and return the cells whose jobs ran."""
        self.succeed("snakemake", "--cores", "2", *(arguments or ("all",)))
        return self.ran()

    def repro(self) -> list[str]:
        """Run DVC to its end and return the cells whose jobs ran."""
        self.succeed("dvc", "repro")
        return self.ran()

    def ran(self) -> list[str]:
        """Return the cells whose jobs ran, each once, and empty the log."""
        log = self.root / "ran.log"
        cells = log.read_text().split() if log.exists() else []
        log.unlink(missing_ok=True)
        twice = [cell for cell, count in Counter(cells).items() if count > 1]
        assert not twice, f"made twice in one run: {twice}"
        return sorted(cells)

    def planned(self) -> bool:
        """Return whether a dry run has any job to run."""
        return "Nothing to be done" not in self.succeed("snakemake", "-n", "all")

    def change_ft(self) -> None:
        """Write ``params.yaml`` with another setting of the repair ``ft``."""
        self.params(baselines={"methods": ["ft"], "settings": {"ft": {"rate": 0.7}}})

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
        """Wait until a job of this stage has started."""
        log = self.root / "ran.log"
        deadline = time.monotonic() + 180
        while not (log.exists() and text in log.read_text()):
            assert time.monotonic() < deadline, f"no job of {text} started"
            time.sleep(0.05)

    def contents(self) -> dict[str, bytes]:
        results = self.root / "results"
        return {
            path.relative_to(results).as_posix(): path.read_bytes()
            for path in results.rglob("*")
            if path.is_file()
        }


TYPES = (
    "methods/table.py",
    "methods/settings.py",
    "methods/sources/bad_rows.py",
    "data/artifacts.py",
    "data/input_artifacts.py",
    "model/arithmetic.py",
    "report/markup.py",
)


def copy_engine(package: Path) -> None:
    """Copy the code under test: the engine and the tools."""
    for name in ("engine", "tools"):
        shutil.copytree(ROOT / "src/clipmend" / name, package / name)
    for name in ("__init__.py", "__main__.py", "cli.py", "errors.py"):
        shutil.copy(ROOT / "src/clipmend" / name, package)
    for name in TYPES:
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "src/clipmend" / name, package / name)


def stage_text(stage: str) -> str:
    """Return the runner of a stage; two stages import a module that the others do not."""
    text = REPORT if stage == "report" else STAGE
    if stage in ("detect", "baselines"):
        imported = "from clipmend.data import shared_by_all"
        text = text.replace(imported, f"from clipmend.model import shared_by_two\n{imported}")
        text = text.replace("shared_by_all.VERSION.", "shared_by_two.VERSION.")
    if stage == "detect":
        files = "MODEL_SCORES if job.method in MODEL_DETECTORS else FILES"
        text = text.replace("in FILES:", f"in {files}:")
        names = tuple(name for name in METHODS["detect"] if scores_of(name) == "model")
        constants = f'MODEL_DETECTORS = {names!r}\nMODEL_SCORES = ["model_score.json"]'
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
    part = STAGE.format(files=["input_scores.parquet"])
    stub(package / "stages/parts/detect_inputs.py", part)
    for name in contents.FIGURES:
        stub(package / "report/figures" / f"{name}.py", '"""Stub."""\n\nCAPTION = "A caption."\n')
    for name in ("cards.py", "contents.py"):
        shutil.copy(ROOT / "src/clipmend/report" / name, package / "report" / name)
    for stage, methods in METHODS.items():
        for name, method in methods.items():
            path = package / "methods" / FOLDERS[stage] / f"{name}.py"
            stub(path, METHOD.format(cls=method.cls, extra=DETECTOR if stage == "unlearn" else ""))
    project = Project(root)
    project.params()
    return project


def stub(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in git and DVC after one run of all cells; tests copy it and never change it."""
    project = build(tmp_path_factory.mktemp("finished"))
    project.succeed("git", "init", "-q")
    project.succeed("dvc", "init", "-q")
    project.commit("begin")
    assert project.run()
    return project


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A finished project; its inodes differ from all records, and it keeps its hard links."""
    subprocess.run(["cp", "-a", finished.root, tmp_path / "project"], check=True)
    return Project(tmp_path / "project")


@pytest.fixture
def empty(finished: Project, tmp_path: Path) -> Project:
    """A fresh clone, without results, store or records."""
    return finished.clone(tmp_path / "clone")
