"""The stage ``pretrain``: a victim, its early self, and its curve."""

from clipmend.attacks.trigger import read_trigger
from clipmend.clip.curve import watch, write_curve
from clipmend.clip.fit import Hooks, fit
from clipmend.clip.model import Clip, build
from clipmend.clip.zero_shot import prompts_of
from clipmend.corpus.splits import load_split, read_vocabulary
from clipmend.errors import TrainingError
from clipmend.job import Job
from clipmend.methods import create
from clipmend.pretrain.objective import Objective
from clipmend.seeds import stream

EARLY = "early.safetensors"


def run(job: Job) -> None:
    """Train a CLIP on a corpus with an overlay.

    Reads  the corpus; ``overlay.parquet`` and the trigger (for the curve alone) of the poison.
    Writes ``model.safetensors``, ``early.safetensors`` (after the objective's ``early_epoch``),
    ``open_clip_config.json`` and ``curve.csv``. The folder loads in plain open_clip.
    """
    corpus, poison = job.inputs["corpus"].folder, job.inputs["poison"]
    seed = 0 if job.seed is None else job.seed
    objective: Objective = create("pretrain", job.method, job.settings)
    train = load_split(corpus, "train", overlay=poison.folder / "overlay.parquet")
    model = build(
        job.shared["model"],
        seed=seed,
        pretrained=job.shared["pretrained"],
        head=objective.head(),
    )
    texts = [*train.captions, *prompts_of(read_vocabulary(corpus)), *objective.texts()]
    model.narrow(texts).to(job.device)
    task = objective.task(model, train, stream(seed, "pretrain/views"))
    if objective.early_epoch > task.schedule.epochs:
        raise TrainingError(
            f"{job.method}: the early checkpoint is wanted after epoch {objective.early_epoch}, "
            f"but there are {task.schedule.epochs}; lower `early_epoch`."
        )
    early = job.work / EARLY  # not `out`: it must outlive a kill

    def keep(epoch: int, model: Clip) -> None:
        if epoch == objective.early_epoch:
            model.save(job.work, EARLY)

    hooks = Hooks(watch(corpus, read_trigger(poison)), keep=keep, work=job.work, label=job.cell)
    points = fit(model, task, stream(seed, "pretrain/fit"), hooks)
    early.replace(job.out / EARLY)
    model.save(job.out)
    write_curve(points, job.out / "curve.csv")
