"""The stage ``baselines``: the repairs that people compare with."""

from clipmend.attacks.trigger import read_trigger
from clipmend.baselines.repair import Repair
from clipmend.clip.curve import watch, write_curve
from clipmend.clip.fit import Hooks, fit
from clipmend.clip.model import load
from clipmend.clip.zero_shot import prompts_of
from clipmend.corpus.splits import load_split, read_vocabulary
from clipmend.job import Job
from clipmend.methods import create
from clipmend.seeds import stream


def run(job: Job) -> None:
    """Repair a victim.

    Reads  ``trusted.parquet``, the victim, and the trigger (for the curve alone).
    Writes ``model.safetensors``, ``open_clip_config.json`` and ``curve.csv``.
    """
    repair: Repair = create("baselines", job.method, job.settings)
    corpus = job.inputs["corpus"].folder
    seed = 0 if job.seed is None else job.seed
    trusted = load_split(corpus, "trusted")
    texts = [*trusted.captions, *prompts_of(read_vocabulary(corpus)), *repair.texts()]
    model = load(job.inputs["victim"].folder).narrow(texts).to(job.device)
    task = repair.task(model, trusted, stream(seed, "baselines/views"))
    hooks = Hooks(watch(corpus, read_trigger(job.inputs["poison"])), work=job.work, label=job.cell)
    points = fit(model, task, stream(seed, "baselines/fit"), hooks)
    model.save(job.out)
    write_curve(points, job.out / "curve.csv")
