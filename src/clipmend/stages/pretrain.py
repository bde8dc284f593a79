"""The stage ``pretrain``: train a victim, its early checkpoint and its curve."""

import shutil

from clipmend.data import artifacts
from clipmend.data.seeds import stream
from clipmend.data.splits import load_split, read_vocabulary
from clipmend.engine.files import remove
from clipmend.engine.job import Job
from clipmend.errors import TrainingError
from clipmend.methods.attacks.trigger import prompts_under, read_triggers
from clipmend.methods.interfaces import Objective
from clipmend.methods.objectives.truncation import refuse_truncated
from clipmend.methods.table import create
from clipmend.metrics.curve import measure_on_val, write_curve
from clipmend.metrics.measurable import refuse_unmeasurable
from clipmend.model.checkpoint import is_saved
from clipmend.model.clip import Clip, build, load
from clipmend.model.fit import Hooks, fit
from clipmend.model.parallel import join, leave, synced


def run(job: Job) -> None:
    """Train a CLIP on a corpus with an overlay.

    Reads  the corpus; ``overlay.parquet`` of the poison and its triggers, these for the curve
    alone; the initial model, if the objective has a ``start``.
    Writes ``model.safetensors``, ``early.safetensors`` (after the objective's ``early_epoch``),
    ``open_clip_config.json`` and ``curve.csv``. The folder loads in plain open_clip. Of several
    processes, only the leading one writes.
    """
    ranks = join(job.device)
    corpus, poison, seed = job.inputs["corpus"].folder, job.inputs["poison"], job.seed or 0
    objective: Objective = create("pretrain", job.method, job.settings)
    train = load_split(corpus, "train", overlay=poison.folder / artifacts.OVERLAY)
    triggers = read_triggers(poison)
    model = _start(job, objective, seed)
    model.ranks = ranks
    poisoned = [train.captions[row] for row in train.is_poisoned.nonzero().flatten().tolist()]
    # Before hours of training: poison without its target would teach no backdoor.
    # A target name beyond the context length would never reach the text tower.
    refuse_truncated(model, poisoned, {trigger.target for trigger in triggers})
    refuse_unmeasurable(model, corpus, {trigger.target for trigger in triggers})
    prompts = prompts_under(triggers, read_vocabulary(corpus))
    # The prompts too, because the curve embeds them during training.
    model.prune_vocabulary([*train.captions, *prompts, *objective.texts()])
    _configure(model, job)
    task = objective.task(model, train, stream(seed, "pretrain/views"))
    if objective.early_epoch > task.schedule.epochs:
        raise TrainingError(
            f"{job.method} saves its early checkpoint after epoch {objective.early_epoch}, but "
            f"trains for {task.schedule.epochs} epochs; lower `early_epoch`."
        )
    early = job.work / artifacts.EARLY_MODEL  # not in `out`, which a restart after a kill empties

    def keep(epoch: int, model: Clip) -> None:
        if epoch == objective.early_epoch:
            for name in (artifacts.EARLY_MODEL, artifacts.MODEL_CONFIG):
                remove(job.work / name)  # the folder may be in any state
            model.save(job.work, artifacts.EARLY_MODEL)

    def is_kept(epoch: int) -> bool:
        return epoch < objective.early_epoch or is_saved(model, early)

    hooks = Hooks(
        measure_on_val(corpus, triggers),
        after_epoch=keep,
        work=job.work,
        can_resume=is_kept,
        label=job.cell,
    )
    points = fit(model, task, stream(seed, "pretrain/fit"), hooks)
    leave(ranks)  # before writing, which only the leading process does
    if not ranks.leads:
        return
    shutil.copyfile(early, job.out / artifacts.EARLY_MODEL)  # a killed job still needs its own
    model.save(job.out)
    write_curve(points, job.out / artifacts.CURVE)


def _start(job: Job, objective: Objective, seed: int) -> Clip:
    if "start" in job.inputs:
        return load(job.inputs["start"].folder)
    shared = job.shared
    return build(shared["model"], seed=seed, pretrained=shared["pretrained"], head=objective.head())


def _configure(model: Clip, job: Job) -> None:
    """Move the model to its device and apply the settings of ``pretrain.loop``."""
    loop = job.shared.get("loop", {})
    model.precision = loop.get("precision", "auto")
    model.chunk = loop.get("chunk")
    if model.ranks.count > 1:
        synced(model.net, job.device)
    if loop.get("grad_checkpointing"):
        model.checkpoint_towers()
    model.to(job.device)
    if loop.get("compile"):
        model.compile_towers()
