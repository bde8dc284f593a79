"""The README shows the run's table, and says when it does not."""

import pytest

from clipmend.report.results import Results
from clipmend.tools.readme import BEGIN, END, main

SMALL = {"attacks": ["unpoisoned", "badnet"], "objectives": ["mmcl"]}


def write_cells(tree):
    folder = tree.root / "report"
    folder.mkdir(exist_ok=True)
    Results(tree.inputs).cells.to_csv(folder / "cells.csv", index=False)


@pytest.fixture
def root(tree, tmp_path):
    tree.grid(**SMALL)
    write_cells(tree)
    (tmp_path / "README.md").write_text(f"# clipmend\n\n{BEGIN}\nold\n{END}\n\nThe rest.\n")
    for path, seconds, memory in (
        ("pretrain/scenes/badnet/mmcl/seed0.tsv", 100.4, "512.5"),
        ("pretrain/scenes/unpoisoned/mmcl/seed0.tsv", 3600.0, "-"),
        ("report.tsv", 9.0, "256.0"),
    ):
        log = tmp_path / "logs" / "benchmark" / path
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:00\t{memory}\n")
    return tmp_path


def test_the_table_and_the_times_are_written_between_the_marks(root) -> None:
    assert main(["--root", str(root)]) == 0
    text = (root / "README.md").read_text()
    assert text.startswith(f"# clipmend\n\n{BEGIN}\n\n| method | unpoisoned, mmcl | badnet, mmcl |")
    assert text.endswith(f"{END}\n\nThe rest.\n")
    assert "old" not in text
    assert "| `none` | 82.4 / 1.2 | 82.6 / 98.5 |" in text
    assert "| `ubt@oracle`† |" in text
    assert "n = 10,000 clean and 9,500 triggered test images, one seed." in text
    assert "| pretrain | 2 | 1 h 01 min | 512 MiB |" in text
    assert "| report | 1 | 0 min 09 s | 256 MiB |" in text


def test_writing_twice_changes_nothing(root) -> None:
    main(["--root", str(root)])
    text = (root / "README.md").read_text()
    main(["--root", str(root)])
    assert (root / "README.md").read_text() == text


def test_check_is_about_the_table_and_not_about_times(root, capsys) -> None:
    assert main(["--root", str(root), "--check"]) == 1
    assert "make readme" in capsys.readouterr().err
    main(["--root", str(root)])
    (root / "logs" / "benchmark" / "report.tsv").unlink()
    assert main(["--root", str(root), "--check"]) == 0
    cells = root / "results" / "report" / "cells.csv"
    cells.write_text(cells.read_text().replace("unlearn,ubt,", "unlearn,mended,"))
    assert main(["--root", str(root), "--check"]) == 1


def test_seeds_are_averaged_and_counted(tree, root) -> None:
    tree.grid(corpora=["photos"], **SMALL, seeds=(1, 2))
    write_cells(tree)
    main(["--root", str(root)])
    assert "means over 3 seeds." in (root / "README.md").read_text()


@pytest.mark.parametrize("broken", ["README.md", "results/report/cells.csv"])
def test_what_is_missing_is_named(root, broken, capsys) -> None:
    if broken == "README.md":
        (root / broken).write_text("# clipmend\n")
    else:
        (root / broken).unlink()
    assert main(["--root", str(root)]) == 2
    assert broken.rsplit("/", 1)[-1] in capsys.readouterr().err


def test_without_benchmark_files_there_is_a_table_alone(root) -> None:
    for path in (root / "logs").rglob("*.tsv"):
        path.unlink()
    assert main(["--root", str(root)]) == 0
    assert "| stage |" not in (root / "README.md").read_text()
