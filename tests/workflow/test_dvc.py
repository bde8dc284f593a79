"""Snakemake and DVC agree on the finished cells, whichever tool made them or pulled them."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def assert_cache_is_sound(project: Any) -> None:
    """Compare every object in DVC's cache with its name, which is the MD5 of its bytes."""
    objects = [path for path in project.root.glob(".dvc/cache/files/md5/*/*") if path.is_file()]
    assert objects
    for path in objects:
        named = (path.parent.name + path.name).removesuffix(".dir")
        assert hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == named


@pytest.fixture(scope="module")
def locked(finished: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The finished project with dvc.lock in step, committed; tests copy it and never change it."""
    project = finished.copy(tmp_path_factory.mktemp("locked") / "project")
    assert project.repro() == []
    assert "up to date" in project.succeed("dvc", "status")
    project.commit("one")
    return project


@pytest.fixture
def copied(locked: Any, tmp_path: Path) -> Callable[[str], Any]:
    def make(cache: str) -> Any:
        """Return a copy of the project with links of this kind to DVC's cache."""
        project = locked.copy(tmp_path / "project")
        project.succeed("dvc", "config", "cache.type", cache)
        project.succeed("dvc", "checkout", "--relink")
        return project

    return make


def test_dvc_makes_exactly_the_branch_of_an_edit(copied: Any) -> None:
    project = copied("copy")
    project.change_ft()
    assert project.repro() == project.branch("ft")
    assert not project.planned()


def test_snakemake_has_no_job_to_run_after_dvc(empty: Any, locked: Any) -> None:
    cells = [name for name in locked.contents() if name.endswith("card.json")]
    assert len(empty.repro()) == len(cells)
    assert not empty.planned()
    assert empty.contents() == locked.contents()
    assert "up to date" in empty.succeed("dvc", "status")
    lock = (empty.root / "dvc.lock").read_bytes()
    assert lock == (locked.root / "dvc.lock").read_bytes()


@pytest.mark.parametrize("cache", ["copy", "hardlink", "symlink"])
def test_a_checkout_of_another_revision_has_no_job_to_run_with_every_kind_of_cache(
    copied: Any, cache: str
) -> None:
    project = copied(cache)
    before = project.contents()
    project.change_ft()
    assert project.run() == project.branch("ft")
    assert project.repro() == []
    project.commit("two")
    after = project.contents()
    for tag, contents in (("one", before), ("two", after)):
        project.succeed("git", "checkout", "-q", tag)
        project.succeed("dvc", "checkout")
        assert project.run() == []
        assert project.contents() == contents
        assert "up to date" in project.succeed("dvc", "status")
    shutil.rmtree(project.root / ".clipmend")  # no store to bring anything back
    project.params()
    assert project.run() == project.branch("ft")
    assert_cache_is_sound(project)


def test_a_clone_after_a_pull_has_no_job_to_run_and_notices_an_edit(
    locked: Any, copied: Any, tmp_path: Path
) -> None:
    project = copied("copy")
    project.succeed("dvc", "remote", "add", "--default", "store", str(tmp_path / "remote"))
    project.commit("remote")
    project.succeed("dvc", "push")
    clone = project.clone(tmp_path / "clone")
    clone.succeed("dvc", "pull")
    assert not clone.planned()
    assert clone.contents() == locked.contents()
    assert "up to date" in clone.succeed("dvc", "status")
    clone.change_ft()
    assert clone.run() == clone.branch("ft")


@pytest.mark.parametrize("cache", ["hardlink", "symlink"])
def test_an_emptied_cache_is_filled_again_from_the_results(copied: Any, cache: str) -> None:
    project = copied(cache)
    before = project.contents()
    shutil.rmtree(project.root / ".dvc/cache")
    assert project.run() == []  # the store has the bytes of the symbolic links
    assert project.contents() == before
    project.succeed("dvc", "commit", "--force")
    assert_cache_is_sound(project)


def test_dvc_shows_numbers_parameters_and_plots(copied: Any, tmp_path: Path) -> None:
    project = copied("copy")
    project.change_ft()
    assert project.run() == project.branch("ft")
    assert "rate" in project.succeed("dvc", "params", "diff")
    assert "metrics.json" in project.succeed("dvc", "metrics", "diff")
    assert "report" in project.succeed("dvc", "dag")
    project.succeed("dvc", "plots", "diff", "one", "--out", str(tmp_path / "plots"))
    page = (tmp_path / "plots/index.html").read_text()
    assert "attack_success_rate" in page


def test_shards_are_files_of_dvc_unless_dvcignore_names_them(copied: Any) -> None:
    project = copied("copy")
    shards = [f"results/download/scenes/train/0000{number}.parquet" for number in range(2)]
    project.params(download={"corpora": ["scenes"], "rows_per_shard": 1000})
    project.repro()
    assert all(is_cached(project, path) for path in shards)
    with (project.root / ".dvcignore").open("a") as file:
        file.write("/results/download/*/*/\n")
    project.params(download={"corpora": ["scenes"], "rows_per_shard": 2000})
    assert "download/scenes" in project.repro()
    assert not any(is_cached(project, path) for path in shards)
    assert is_cached(project, "results/download/scenes/train.parquet")
    project.commit("outside")
    project.succeed("dvc", "checkout")
    assert all((project.root / path).is_file() for path in shards)
    assert "up to date" in project.succeed("dvc", "status")
    assert not project.planned()


def is_cached(project: Any, path: str) -> bool:
    """Return whether the cache of DVC has a file of these bytes."""
    md5 = hashlib.md5((project.root / path).read_bytes(), usedforsecurity=False).hexdigest()
    return (project.root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]).is_file()
