"""Time and memory of poisoning many pairs.

python -m benchmarks.poisoning > benchmarks/results/poisoning.md
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.harness import machine, measure, page, table
from benchmarks.stage import run_stage, write_corpus
from clipmend.data.row_groups import GROUP

SIZE = 64  # pixels
IMAGES = 512  # different ones; each pair decodes and encodes its own copy
HEAD = (
    "training pairs | file, MB | poisoned | wall, s | core-s "
    "| memory before, MB | peak, MB | load before"
)
ROW = (
    "{rows:,} | {corpus_mb:,.0f} | {poisons:,} | {seconds:.1f} | {cpu:.1f} "
    "| {before_mb:,.0f} | {peak_mb:,.0f} | {load:.1f}"
)


def main() -> None:
    """Measure each size at the middle number of poisons, the largest at each; print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[50_000, 500_000])
    parser.add_argument("--poisons", type=int, nargs="+", default=[150, 1500, 15000])
    options = parser.parse_args()
    runs = []
    for rows in options.rows:
        middle = [options.poisons[len(options.poisons) // 2]]
        with tempfile.TemporaryDirectory() as folder:
            write_corpus(Path(folder), rows, size=SIZE, images=IMAGES, as_jpeg=True)
            for count in options.poisons if rows == options.rows[-1] else middle:
                settings = {"poison_rate": count / rows}
                runs.append(measure(run_stage, folder, "poison", "badnet", settings))
    rates = table(runs, HEAD, ROW)
    print(page("poisoning", machine=machine(), size=SIZE, group=GROUP, table=rates), end="")


if __name__ == "__main__":
    main()
