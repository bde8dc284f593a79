"""The stage ``unlearn``: the victim forgets a few pairs."""

from clipmend.data.seeds import stream
from clipmend.data.splits import load_split
from clipmend.engine.job import Job
from clipmend.methods.attacks.trigger import read_triggers
from clipmend.methods.repairs.mending import carry_out
from clipmend.methods.repairs.unlearner import Evidence, Unlearner
from clipmend.methods.table import create
from clipmend.metrics.curve import measure_on_val
from clipmend.metrics.scores import read_scores
from clipmend.model.clip import CONFIG, load
from clipmend.model.fit import Hooks

_OVERFITTED = "overfitted.safetensors"


def run(job: Job) -> None:
    """Unlearn suspects.

    Reads  ``train.parquet`` with the overlay, the victim, the detector's ``scores.parquet`` and
    ``overfitted.safetensors`` (if it has one), the trigger (for the curve alone).
    Writes ``model.safetensors``, ``open_clip_config.json``, ``curve.csv``, ``chosen.parquet``
    (id, caption, text: the part of the caption that was unlearned, score, and the cosine of the
    image with what that part stands for, before and after) and ``finding.json``.
    """
    unlearner: Unlearner = create("unlearn", job.method, job.settings)
    evidence = _evidence(job, sighted=unlearner.control)
    seed = 0 if job.seed is None else job.seed
    plan = unlearner.plan(evidence, stream(seed, "unlearn/choose"))
    corpus = job.inputs["corpus"].folder
    triggers = read_triggers(job.inputs["poison"])
    hooks = Hooks(measure_on_val(corpus, triggers), work=job.work, label=job.cell)
    mended = carry_out(plan, evidence, stream(seed, "unlearn/fit"), hooks)
    evidence.victim.save(job.out)
    mended.write(job.out)


def _evidence(job: Job, *, sighted: bool) -> Evidence:
    corpus = job.inputs["corpus"].folder
    overlay = job.inputs["poison"].folder / "overlay.parquet"
    train = load_split(corpus, "train", overlay=overlay)
    train = train if sighted else train.blind()
    # Whole vocabularies: a long caption less a word may have tokens that no whole caption has.
    victim = load(job.inputs["victim"].folder).to(job.device)
    found = job.inputs["detector"].folder
    if (found / _OVERFITTED).is_file() and (found / CONFIG).is_file():
        overfitted = load(found, _OVERFITTED).to(job.device)
    else:
        overfitted = victim.frozen_copy()
    scores = read_scores(found, train.ids)
    return Evidence(victim, overfitted, train, scores.score, scores.suspects)
