"""Snakemake and DVC agree on what is made, whichever of them made it, wherever it was pulled."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")
EDITED = {"methods": ["ft"], "settings": {"ft": {"rate": 0.7}}}
VICTIMS = [f"scenes/{attack}/mmcl/seed0" for attack in ("badnet", "unpoisoned")]
BRANCH = sorted(
    [f"baselines/{victim}/ft" for victim in VICTIMS]
    + [f"evaluate/{victim}/ft/badnet" for victim in VICTIMS]
    + ["report"]
)


def succeed(project: Any, *command: str) -> str:
    done = project.call(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


def commit(project: Any, tag: str) -> None:
    for command in (("add", "-A"), ("commit", "-qm", tag), ("tag", tag)):
        succeed(project, *GIT, *command)


def check_out(project: Any, tag: str) -> None:
    succeed(project, "git", "checkout", "-q", tag)
    succeed(project, "dvc", "checkout")


def assert_cache_is_whole(project: Any) -> None:
    """Compare every object in DVC's cache with its name, which is the MD5 of its bytes."""
    objects = [path for path in project.root.glob(".dvc/cache/files/md5/*/*") if path.is_file()]
    assert objects
    for path in objects:
        named = (path.parent.name + path.name).removesuffix(".dir")
        assert hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == named


@pytest.fixture(scope="module")
def locked(finished: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The finished project with dvc.lock in step, committed; copied, never changed."""
    root = tmp_path_factory.mktemp("locked") / "project"
    shutil.copytree(finished.root, root, symlinks=True)
    project = type(finished)(root)
    assert project.repro() == []
    assert "up to date" in succeed(project, "dvc", "status")
    commit(project, "one")
    return project


@pytest.fixture
def copied(locked: Any, tmp_path: Path) -> Callable[[str], Any]:
    def make(cache: str) -> Any:
        """Return a project of one's own, with DVC's links of this kind."""
        shutil.copytree(locked.root, tmp_path / "project", symlinks=True)
        project = type(locked)(tmp_path / "project")
        succeed(project, "dvc", "config", "cache.type", cache)
        succeed(project, "dvc", "checkout", "--relink")
        return project

    return make


def test_dvc_makes_exactly_the_branch_of_an_edit(copied: Any) -> None:
    project = copied("copy")
    project.params(baselines=EDITED)
    assert project.repro() == BRANCH
    assert not project.planned()


def test_snakemake_finds_nothing_to_do_after_dvc(empty: Any, locked: Any) -> None:
    cells = [name for name in locked.contents() if name.endswith("card.json")]
    assert len(empty.repro()) == len(cells)
    assert not empty.planned()
    assert empty.contents() == locked.contents()
    assert "up to date" in succeed(empty, "dvc", "status")
    lock = (empty.root / "dvc.lock").read_bytes()
    assert lock == (locked.root / "dvc.lock").read_bytes()


@pytest.mark.parametrize("cache", ["copy", "hardlink", "symlink"])
def test_an_older_run_and_back_runs_nothing_with_every_kind_of_cache(
    copied: Any, cache: str
) -> None:
    project = copied(cache)
    before = project.contents()
    project.params(baselines=EDITED)
    assert project.run() == BRANCH
    assert project.repro() == []
    commit(project, "two")
    after = project.contents()
    for tag, contents in (("one", before), ("two", after)):
        check_out(project, tag)
        assert project.run() == []
        assert project.contents() == contents
        assert "up to date" in succeed(project, "dvc", "status")
    shutil.rmtree(project.root / ".clipmend")  # no store to bring anything back
    project.params()
    assert project.run() == BRANCH
    assert_cache_is_whole(project)


def test_a_clone_that_pulled_finds_nothing_to_do_and_notices_an_edit(
    locked: Any, copied: Any, tmp_path: Path
) -> None:
    project = copied("copy")
    succeed(project, "dvc", "remote", "add", "--default", "store", str(tmp_path / "remote"))
    commit(project, "remote")
    succeed(project, "dvc", "push")
    succeed(project, "git", "clone", "-q", str(project.root), str(tmp_path / "clone"))
    clone = type(locked)(tmp_path / "clone")
    (clone.root / "data").mkdir(exist_ok=True)
    succeed(clone, "dvc", "pull")
    assert not clone.planned()
    assert clone.contents() == locked.contents()
    assert "up to date" in succeed(clone, "dvc", "status")
    clone.params(baselines=EDITED)
    assert clone.run() == BRANCH


@pytest.mark.parametrize("cache", ["hardlink", "symlink"])
def test_an_emptied_cache_is_filled_again_from_what_was_made(copied: Any, cache: str) -> None:
    project = copied(cache)
    before = project.contents()
    shutil.rmtree(project.root / ".dvc/cache")
    assert project.run() == []  # symbolic links led nowhere: the store has the bytes
    assert project.contents() == before
    succeed(project, "dvc", "commit", "--force")
    assert_cache_is_whole(project)


def test_dvc_shows_numbers_parameters_and_plots(copied: Any, tmp_path: Path) -> None:
    project = copied("copy")
    project.params(baselines=EDITED)
    assert project.run() == BRANCH
    assert "rate" in succeed(project, "dvc", "params", "diff")
    assert "metrics.json" in succeed(project, "dvc", "metrics", "diff")
    assert "report" in succeed(project, "dvc", "dag")
    succeed(project, "dvc", "plots", "diff", "one", "--out", str(tmp_path / "plots"))
    page = (tmp_path / "plots/index.html").read_text()
    assert "attack_success_rate" in page


def test_shards_are_in_dvc_file_by_file_or_left_out_of_it_by_a_line(copied: Any) -> None:
    project = copied("copy")
    shards = [f"results/download/scenes/train/0000{number}.parquet" for number in range(2)]
    project.params(download={"corpora": ["scenes"], "rows_per_shard": 1000})
    project.repro()
    assert all(is_cached(project, path) for path in shards)
    with (project.root / ".dvcignore").open("a") as file:
        file.write("/results/download/*/*/\n")
    project.params(download={"corpora": ["scenes"], "rows_per_shard": 2000})
    made = project.repro()
    assert "download/scenes" in made
    assert not any(is_cached(project, path) for path in shards)
    assert is_cached(project, "results/download/scenes/train.parquet")
    commit(project, "outside")
    succeed(project, "dvc", "checkout")
    assert all((project.root / path).is_file() for path in shards)
    assert "up to date" in succeed(project, "dvc", "status")
    assert not project.planned()


def is_cached(project: Any, path: str) -> bool:
    """Say whether DVC has a file of these bytes."""
    md5 = hashlib.md5((project.root / path).read_bytes(), usedforsecurity=False).hexdigest()
    return (project.root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]).is_file()
