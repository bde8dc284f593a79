"""Every stage of a tiny run in one process, for ``test_arithmetic``: prints a digest per file.

The detector has no zoomed views: the emulator of Debian 12 fails at a gather instruction of them.
"""

import hashlib
import json
import sys
from pathlib import Path

from clipmend.model import arithmetic
from tests.conftest import MODEL, TARGET, World

SIZES = {"train": 64, "trusted": 16, "val": 32, "test": 32}


def main(root: Path) -> None:
    """Poison, train, detect, repair and evaluate below ``root``."""
    import scipy.linalg  # noqa: F401

    from clipmend.model.clip import build  # the libraries that the self-test looks for

    assert build is not None
    arithmetic.start("portable", "cpu")
    world = World(root)
    corpus = world.run("download/tiny", "scenes", settings=SIZES)
    rate = {"poison_rate": 0.2}
    poison = world.run(
        "poison/tiny/blended/seed0", "blended", {"corpus": corpus}, settings=rate, shared=TARGET
    )
    pairs = {"corpus": corpus, "poison": poison}
    short = {"epochs": 1, "batch_size": 32}
    place = "tiny/blended/mmcl/seed0"
    victim = world.run(f"pretrain/{place}", "mmcl", pairs, settings=short, shared=MODEL)
    given = {**pairs, "victim": victim}
    world.run(f"detect/{place}/isolation_forest", "isolation_forest", given)
    scored = world.run(f"detect/{place}/ubt", "ubt", given, settings={"views": 0})
    few = {"pairs": 8, "epochs": 1, "cooldown": 0, "normal_batch_size": 16}
    repaired = world.run(f"unlearn/{place}/ubt", "ubt", {**given, "detector": scored}, settings=few)
    inputs = {"corpus": corpus, "model": repaired, "trigger": poison}
    world.run(f"evaluate/{place}/ubt/blended", "", inputs)
    results = root / "results"
    files = sorted(path for path in results.rglob("*") if path.is_file())
    digests = {
        path.relative_to(results).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }
    print(json.dumps(digests))  # noqa: T201


main(Path(sys.argv[1]))
