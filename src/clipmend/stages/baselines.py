"""The stage ``baselines``: the repairs that people compare with."""

from functools import cache
from pathlib import Path

from clipmend.data.seeds import stream
from clipmend.data.splits import Pairs, load_split, read_vocabulary
from clipmend.engine.job import Job
from clipmend.errors import TrainingError
from clipmend.methods.attacks.trigger import prompts_under, read_triggers
from clipmend.methods.repairs.repair import Detected, Means, Repair
from clipmend.methods.table import create
from clipmend.metrics.curve import measure_on_val, write_curve
from clipmend.metrics.scores import read_scores
from clipmend.model.clip import CONFIG, WEIGHTS, Clip, build, load
from clipmend.model.fit import Hooks, fit_all


def run(job: Job) -> None:
    """Repair a victim.

    Reads  what the repair needs of: ``trusted.parquet``, ``train.parquet`` with the overlay, the
    victim, the detector's ``scores.parquet`` and models; the trigger (for the curve alone).
    Writes ``model.safetensors``, ``open_clip_config.json`` and ``curve.csv``.
    """
    repair: Repair = create("baselines", job.method, job.settings)
    corpus = job.inputs["corpus"].folder
    seed = 0 if job.seed is None else job.seed
    means = _means(job, repair)
    hooks = Hooks(
        measure_on_val(
            corpus, read_triggers(job.inputs["poison"]), images=job.shared["curve_images"]
        ),
        points=job.shared["curve_epochs"],
        work=job.work,
        label=job.cell,
    )
    tasks = repair.tasks(means, stream(seed, "baselines/views"))
    points = fit_all(means.model, tasks, stream(seed, "baselines/fit"), hooks)
    means.model.save(job.out)
    write_curve(points, job.out / "curve.csv")


def _means(job: Job, repair: Repair) -> Means:
    corpus, victim = job.inputs["corpus"].folder, job.inputs["victim"].folder
    overlay = job.inputs["poison"].folder / "overlay.parquet"
    train = cache(lambda: load_split(corpus, "train", overlay=overlay))
    trusted = load_split(corpus, "trusted").blind()
    prompts = prompts_under(read_triggers(job.inputs["poison"]), read_vocabulary(corpus))
    texts = {*trusted.captions, *prompts, *repair.texts()}
    if "train" in repair.needs:
        texts |= {*train().captions}

    def read(folder: Path, name: str = WEIGHTS) -> Clip:
        return load(folder, name).prune_vocabulary(sorted(texts)).to(job.device)

    def slipped(count: int) -> Pairs:
        poisoned = train().is_poisoned.nonzero()[:count, 0]
        if len(poisoned) < count:
            raise TrainingError(
                f"{job.cell}: {count} poisoned pairs are to be left among the trusted ones, but "
                f"this victim saw {len(poisoned)}; lower `poisons`."
            )
        return train().take(poisoned).blind()

    def detected() -> Detected:
        found = job.inputs["detector"].folder
        score = read_scores(found, train().ids).score
        return Detected(score, lambda name: read(found, name))

    return Means(
        model=read(victim),
        trusted=trusted,
        train=lambda: train().blind(),
        fresh=lambda seed: (
            build(str(victim / CONFIG), seed=seed).prune_vocabulary(texts).to(job.device)
        ),
        slipped=slipped,
        detected=detected,
    )
