"""The runner of the stages ``unlearn`` and ``baselines``: one repair of one victim."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from clipmend.data import artifacts
from clipmend.data.images import encode
from clipmend.data.seeds import stream
from clipmend.data.splits import load_split, read_vocabulary
from clipmend.engine.job import Job
from clipmend.methods.attacks.trigger import prompts_under, read_triggers
from clipmend.methods.interfaces import Assets, Finding, Repair
from clipmend.methods.table import base, create
from clipmend.metrics.curve import measure_on_val, write_curve
from clipmend.metrics.scores import read_scores
from clipmend.model.checkpoint import Point
from clipmend.model.clip import Clip, build, load
from clipmend.model.fit import Hooks, Task, fit_all

# The purposes of the two random streams: outside the loop, and inside it. They do not follow the
# stage: `abl` and `pud` moved to `unlearn`, and another purpose would draw other numbers.
_OWN_PURPOSES = ("unlearn/choose", "unlearn/fit")
_PURPOSES = {"ubt": _OWN_PURPOSES, "see_through": _OWN_PURPOSES}
_OTHER_PURPOSES = ("baselines/views", "baselines/fit")


def run_repair(job: Job) -> None:
    """Repair a victim and write its files into ``job.out``.

    Writes ``model.safetensors``, ``open_clip_config.json`` and ``curve.csv``, and for a repair with
    a finding ``finding.json``, ``chosen.parquet`` and pictures of estimated triggers.
    """
    repair: Repair = create(job.stage, job.method, job.settings)
    assets = _assets(job, repair)
    triggers = read_triggers(job.inputs["poison"])  # for the curve alone
    hooks = Hooks(
        measure_on_val(job.inputs["corpus"].folder, triggers, images=job.shared["curve_images"]),
        points=job.shared["curve_epochs"],
        work=job.work,
        label=job.cell,
    )
    seed, purposes = job.seed or 0, _PURPOSES.get(base(job.method), _OTHER_PURPOSES)
    generators = stream(seed, purposes[0]), stream(seed, purposes[1])
    points, finding = carry_out(repair, assets, generators, hooks)
    assets.model.save(job.out)
    write_curve(points, job.out / artifacts.CURVE)
    if finding is not None:
        write_finding(finding, points[-1].epoch, job.out)


def carry_out(
    repair: Repair,
    assets: Assets,
    generators: tuple[torch.Generator, torch.Generator],
    hooks: Hooks,
) -> tuple[list[Point], Finding | None]:
    """Repair ``assets.model`` in place; return the curve, and the finding of a repair that has one.

    Args:
        generators: for the random numbers outside and inside the training loop.
    """
    outside, inside = generators
    findings: list[Finding | None] = []

    def tasks() -> Iterator[Task]:
        course: Any = repair.tasks(assets, outside)
        findings.append((yield from course))  # None, where the repair has no finding

    points = fit_all(assets.model, tasks(), inside, hooks)
    return points, findings[0]


def write_finding(finding: Finding, epochs: float, folder: Path) -> None:
    """Write ``finding.json`` and, after a repair, ``chosen.parquet``.

    Args:
        epochs: the epochs that the repair trained, which the file states too.
    """
    text = json.dumps({**finding.summary, "epochs": epochs}, indent=1)
    (folder / artifacts.FINDING).write_text(text + "\n", encoding="utf-8")
    if finding.chosen is not None:
        pq.write_table(finding.chosen, folder / artifacts.CHOSEN)
    for name, picture in finding.pictures.items():
        (folder / f"{name}.png").write_bytes(encode(picture))


def _assets(job: Job, repair: Repair) -> Assets:
    corpus, victim = job.inputs["corpus"].folder, job.inputs["victim"].folder
    overlay = job.inputs["poison"].folder / artifacts.OVERLAY
    # Cached, because several assets need them, and each reading decodes every image again.
    train = cache(lambda: load_split(corpus, "train", overlay=overlay))
    labeled = cache(lambda: load_split(corpus, "trusted"))
    trusted = cache(lambda: labeled().blind())
    texts = repair.texts()
    if texts is not None:
        prompts = prompts_under(read_triggers(job.inputs["poison"]), read_vocabulary(corpus))
        captions = train().captions if "train" in repair.needs else ()
        texts = tuple(sorted({*texts, *trusted().captions, *prompts, *captions}))

    # One vocabulary for all models, so that their parameters have the same shapes.
    def ready(model: Clip) -> Clip:
        return (model if texts is None else model.prune_vocabulary(texts)).to(job.device)

    def detector_model(name: str) -> Clip | None:
        folder = job.inputs["detector"].folder
        is_saved = (folder / name).is_file() and (folder / artifacts.MODEL_CONFIG).is_file()
        return ready(load(folder, name)) if is_saved else None

    return Assets(
        model=ready(load(victim)),
        train=lambda: train().blind(),
        trusted=trusted,
        labeled=labeled,
        vocabulary=lambda: read_vocabulary(corpus),
        early=lambda: ready(load(victim, artifacts.EARLY_MODEL)),
        fresh=lambda seed: ready(build(str(victim / artifacts.MODEL_CONFIG), seed=seed)),
        scores=lambda: read_scores(job.inputs["detector"].folder, train().ids),
        detector_model=detector_model,
        is_poisoned=lambda: train().is_poisoned,
        triggers=lambda: read_triggers(job.inputs["poison"]),
    )
