"""``clipmend demo``: a poisoned model and its pairs, inspected, repaired and measured."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import chdir, nullcontext
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from clipmend.data import artifacts
from clipmend.engine import cards, files, plan, runner
from clipmend.engine.cell import Place
from clipmend.engine.folders import visible
from clipmend.engine.index import Index
from clipmend.engine.job import Input, Job
from clipmend.errors import ClipmendError, PlanError
from clipmend.methods.table import base
from clipmend.tools import preset
from clipmend.tools.finished import finished, place_of

PRESET = "demo"
PAIRS, SUSPECTS, MENDED, METRICS = "pairs.parquet", "suspects", "mended", "metrics.json"
_MARK = ".clipmend-demo"  # in a folder that a demo made, which another demo may go on with
_REPAIR = "see_through"
_NUMBERS = {
    "clean_accuracy": "clean accuracy (CA)",
    "attack_success_rate": "attack success rate (ASR)",
    "triggered_accuracy": "accuracy under the trigger",
}
# Adversarial examples would take as long as everything else.
_MEASURED = {"confidence": 0.95, "adversarial": {"images": 1, "epsilons": [], "steps": 1}}


def demo(folder: Path, victim: str | None = None) -> Iterator[str]:
    """Train a small victim below ``folder``, or take a finished one; find its backdoor, repair it.

    Writes ``pairs.parquet``, the folders ``suspects`` and ``mended`` of these commands, and
    ``metrics.json`` with the numbers before and after. A killed demo goes on where it was.

    Args:
        victim: a finished victim of the run in the working folder; None: one is trained.

    Yields:
        The lines to print.

    Raises:
        ClipmendError: the folder holds other files, or the victim is not finished.
    """
    began = time.monotonic()
    place = None if victim is None else _victim(victim)
    _claim(folder)
    out = folder
    if place is None:
        preset.write(PRESET, folder / "params.yaml")
        out = Path()
    # A victim is trained as a run of its own, in the folder of the demo.
    with nullcontext() if place is not None else chdir(folder):
        if place is None:
            yield f"1. A small CLIP is poisoned and trained: a run of its own in {folder}."
            place = _trained()
        else:
            yield f"1. The victim is {place.path}."
        yield from _tour(place, out)
    minutes = (time.monotonic() - began) / 60
    yield f"\nEverything is in {folder} ({minutes:.1f} minutes). Look at these two files:"
    yield f"   {folder / MENDED / 'suspects.png'}"
    yield f"   {folder / MENDED / 'model' / 'README.md'}"
    yield "For a model of your own: clipmend suspects --help"


def _victim(name: str) -> Place:
    place = place_of(name if name.startswith(("results/", "pretrain/")) else f"pretrain/{name}")
    if place.stage != "pretrain":
        raise PlanError(f"{name!r} is not a victim; an example is 'scenes/badnet/mmcl/seed0'.")
    if base(place.attack) == "unpoisoned":
        raise PlanError(f"{name!r} was not poisoned, so that a repair has nothing to remove.")
    finished(place, Index())
    return place


def _claim(folder: Path) -> None:
    """Make the folder, or take one that a demo made.

    Raises:
        ClipmendError: it is a file or a link, it has files of others, or it cannot be made.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ClipmendError(f"{folder} is a file or a link; name a new folder for the demo.")
    is_ours = cards.is_own(folder, _MARK) and (folder / _MARK).is_file()
    if folder.is_dir() and visible(folder) and not is_ours:
        raise ClipmendError(f"{folder} is not empty, and no demo made it; name a new folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.write(folder / _MARK, "")
    except OSError as error:
        raise ClipmendError(f"{folder} cannot be made: {error.strerror}; name another.") from error


def _trained() -> Place:
    """Make the victim of the present parameters with the cells that it reads, and return it."""
    cells = plan.arrange().cells
    name = next(name for name, cell in cells.items() if cell.stage == "pretrain")
    for each in (*cells[name].inputs.values(), name):
        runner.run(each)
    return Place.parse(name)


def _tour(place: Place, out: Path) -> Iterator[str]:
    """Yield the lines of all steps after the training."""
    # Not above: a job prepares its arithmetic before numpy and torch are imported.
    from clipmend.tools.export_pairs import export_pairs
    from clipmend.tools.standalone import progress, run, terminal
    from clipmend.tools.standalone.options import Options

    index = Index()
    model = finished(place, index)
    for name in (PAIRS, SUSPECTS, MENDED):
        if not (out / name / progress.PROGRESS).is_dir():  # else it was killed, and goes on
            files.remove(out / name)
    yield f"2. clipmend export-pairs {place.path} --out {out / PAIRS}\n"
    yield export_pairs(place.path, out / PAIRS)
    options = Options(str(model.folder), out / PAIRS, out=out / SUSPECTS, method=_REPAIR)
    own = f"--model {model.folder} --pairs {out / PAIRS}"
    yield f"\n3. clipmend suspects {own} --out {out / SUSPECTS}\n"
    terminal.show(run.suspects(options))
    yield f"\n4. clipmend mend {own} --out {out / MENDED}\n"
    mended = run.mend(replace(options, out=out / MENDED))
    yield mended.says
    repaired = Input(
        place.at("unlearn", method=_REPAIR).path, out / MENDED / progress.MODEL, "unlearn",
        _REPAIR, place.seed, settings={}, shared={},
    )  # fmt: skip
    measured = {
        "before": _measured(place, model, index),
        "after": _measured(place, repaired, index),
    }
    text = json.dumps({"victim": place.path, **measured}, indent=1)
    files.write(out / METRICS, text + "\n")
    yield "\n5. Measured on the test images of the corpus, which neither command has seen:\n"
    yield from _table(measured)


def _measured(place: Place, model: Input, index: Index) -> dict[str, Any]:
    """Return what the stage ``evaluate`` measures of a model under the trigger of its attack."""
    from clipmend.methods.attacks.trigger import read_triggers

    corpus, poison = (finished(place.at(stage), index) for stage in ("download", "poison"))
    method = _REPAIR if model.stage == "unlearn" else "none"
    trigger = read_triggers(poison)[0].name
    with TemporaryDirectory() as folder:
        job = Job(
            cell=place.at("evaluate", method=method, trigger=trigger).path,
            stage="evaluate",
            method="",
            seed=place.seed,
            settings={},
            shared=_MEASURED,
            device=runner.device_of("auto"),
            inputs={"corpus": corpus, "trigger": poison, "model": model},
            out=Path(folder),
            work=Path(folder),
        )
        import_module("clipmend.stages.evaluate").run(job)
        metrics: dict[str, Any] = json.loads((job.out / artifacts.METRICS).read_text("utf-8"))
    return metrics


def _table(measured: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    width = max(map(len, _NUMBERS.values()))
    yield f"   {'':{width}}  " + "  ".join(f"{when:>7}" for when in measured)
    for name, title in _NUMBERS.items():
        rates = (f"{100 * numbers[name]['value']:5.1f} %" for numbers in measured.values())
        yield f"   {title:{width}}  {'  '.join(rates)}"
