"""Each benchmark runs at its smallest size, and its page has the tables."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
SMALLEST = {
    "arithmetic": "--turns 1",
    "idle_graph": "--seeds 1",
    "poisoning": "--rows 600 --poisons 20",
    "scale": "--rows 600",
    "streaming": "--rows 20000 --all-pairs 5000 --reference 2048 --probes 4",
    "throughput": "--seconds 0 --rounds 1 --window 1 --batch 8 --pairs 16 --steps 2",
}
ROWS = {
    "arithmetic": ["`mmcl` | portable", "`mmcl` | fastest", "`mmcl_ssl` | portable"],
    "idle_graph": ["`snakemake -n all`", "`clipmend status`", "`clipmend verify`"],
    "poisoning": ["600 | 1 | 20"],
    "scale": ["poison `badnet` | 600", "pretrain `mmcl` | 600", "detect `ubt` | 600"],
    "streaming": ["20,000", "`k_distance`", "`slof`", "`lid`", "`dao`", "5,000 | 128"],
    "throughput": ["32 | 8 | `open_clip_train`", "32 | 8 | `clip.fit`", "32 | 8 | "],
}


@pytest.mark.parametrize("name", SMALLEST)
def test_a_benchmark_prints_a_page_with_a_row_for_each_measurement(name) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *SMALLEST[name].split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    # No return code: a loaded machine may miss the limits of `idle_graph`.
    assert done.stdout.startswith("# "), done.stderr[-3000:]
    assert [row for row in ROWS[name] if f"\n| {row}" not in done.stdout] == []


def test_the_benchmarks_are_those_whose_smallest_size_is_tested() -> None:
    pages = {path.stem for path in (ROOT / "benchmarks/pages").glob("*.md")}
    results = {path.stem for path in (ROOT / "benchmarks/results").glob("*.md")}
    assert pages == results == SMALLEST.keys()
