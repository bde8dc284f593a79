"""The stage ``evaluate``: a model's CA and ASR, on `test`, which no other stage reads."""

import json
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from clipmend.data.sampling import sample
from clipmend.data.seeds import seed_of
from clipmend.data.splits import Pairs, load_split, read_vocabulary
from clipmend.data.streaming import Images
from clipmend.engine.job import Input, Job
from clipmend.methods.attacks.trigger import Trigger, prompts_under, read_triggers
from clipmend.methods.table import create
from clipmend.metrics.adversarial import Budget
from clipmend.metrics.autoattack import ensemble_robustness
from clipmend.metrics.rates import (
    DEFINITIONS,
    Measured,
    Rate,
    attack_success_rate,
    clean_accuracy,
    suffixed,
)
from clipmend.metrics.robustness import Attacked, robustness
from clipmend.model.clip import Clip, load
from clipmend.model.zero_shot import class_cosines, class_embeds

_TOP5_FROM = 11  # classes; with ten or fewer, top-5 says little


def run(job: Job) -> None:
    """Measure a model under a trigger.

    Reads  ``test.parquet`` and ``classes.json``, the model, the trigger.
    Writes ``metrics.json``: what was measured on what, each rate with its interval and n.
    """
    bench = _bench(job)
    measured = _rates(bench) | _robustness(bench, job)
    stated = {
        **_identity(job, bench.target),
        **{name: one.number.as_dict() for name, one in measured.items()},
        "definitions": {name: one.meaning for name, one in measured.items()},
    }
    (job.out / "metrics.json").write_text(json.dumps(stated, indent=1) + "\n")


@dataclass(frozen=True)
class _Bench:
    """A model, ready to be measured, and what it is measured on.

    Attributes:
        triggered_classes: the zero-shot classifier as the attacker has it: the trigger may be a
            text in every prompt, too.
        has_text: whether it is.
    """

    model: Clip
    test: Pairs
    triggered: Images
    classes: Float[Tensor, "classes dim"]
    triggered_classes: Float[Tensor, "classes dim"]
    has_text: bool
    target: str
    target_label: int
    confidence: float


def _bench(job: Job) -> _Bench:
    corpus = job.inputs["corpus"].folder
    vocabulary = read_vocabulary(corpus)
    test = load_split(corpus, "test")
    trigger = _trigger(job)
    prompts = prompts_under([trigger], vocabulary)
    model = load(job.inputs["model"].folder).prune_vocabulary(prompts).to(job.device)
    return _Bench(
        model=model,
        test=test,
        triggered=trigger.on(test),
        classes=class_embeds(model, vocabulary),
        triggered_classes=class_embeds(model, trigger.vocabulary(vocabulary)),
        has_text=trigger.vocabulary(vocabulary) != vocabulary,
        target=trigger.target,
        target_label=vocabulary.label_of(trigger.target),
        confidence=job.shared["confidence"],
    )


def _trigger(job: Job) -> Trigger:
    """Return the trigger that the cell is named after; an attack may have several."""
    known = {trigger.name: trigger for trigger in read_triggers(job.inputs["trigger"])}
    return known[job.cell.rpartition("/")[2]]


def _rates(bench: _Bench) -> dict[str, Measured]:
    label, confidence = bench.test.label, bench.confidence
    clean = class_cosines(bench.model, bench.test.images, bench.classes)
    found = {"clean_accuracy": clean_accuracy(clean, label, confidence=confidence)}
    if len(bench.classes) >= _TOP5_FROM:
        found["clean_accuracy_top5"] = clean_accuracy(clean, label, top=5, confidence=confidence)
    # An ASR of 0 is no repair where the model no longer knows the target at all.
    if (own := label == bench.target_label).any():
        found["target_accuracy"] = clean_accuracy(clean[own], label[own], confidence=confidence)
    rates = {name: Measured(number, DEFINITIONS[name]) for name, number in found.items()}
    return rates | _success(bench)


def _success(bench: _Bench) -> dict[str, Measured]:
    """Return the ASR; of a trigger of two keys also with either of them alone."""

    def rate(images: Images, classes: Tensor) -> Rate:
        return attack_success_rate(
            class_cosines(bench.model, images, classes),
            bench.test.label,
            target_label=bench.target_label,
            confidence=bench.confidence,
        )

    name = "attack_success_rate"
    meaning = DEFINITIONS[name]
    rates = {name: Measured(rate(bench.triggered, bench.triggered_classes), meaning)}
    if bench.has_text:
        alone = {
            "image": (rate(bench.triggered, bench.classes), "in the image alone"),
            "text": (rate(bench.test.images, bench.triggered_classes), "in the prompts alone"),
        }
        for key, (number, where) in alone.items():
            rates[f"{name}_{key}"] = Measured(number, f"{meaning}; the trigger {where}")
    return rates


def _robustness(bench: _Bench, job: Job) -> dict[str, Measured]:
    """Return what is left under attack at each bound, on test images that are drawn by id."""
    adversarial, confidence = job.shared["adversarial"], bench.confidence
    rows = sample(bench.test.ids, adversarial["images"])
    attacked = Attacked(
        images=bench.test.images[rows],
        triggered=bench.triggered[rows],
        label=bench.test.label[rows],
        classes=bench.classes,
        target_label=bench.target_label,
    )
    seed = seed_of(job.seed or 0, "evaluate/ensemble") % 2**31
    measured: dict[str, Measured] = {}
    for epsilon in adversarial["epsilons"]:
        budget = Budget(epsilon / 255, adversarial["steps"])
        found = robustness(bench.model, attacked, budget, confidence=confidence)
        if adversarial["ensemble"]:
            found |= ensemble_robustness(
                bench.model, attacked, budget.epsilon, confidence=confidence, seed=seed
            )
        measured |= suffixed(found, f"eps{epsilon}")
    return measured


def _identity(job: Job, target: str) -> dict[str, Any]:
    _, corpus, attack, objective, _, method, trigger = job.cell.split("/")
    model = job.inputs["model"]
    return {
        "corpus": corpus,
        "attack": attack,
        "trigger": trigger,
        "objective": objective,
        "seed": job.seed,
        "stage": model.stage,
        "method": method,
        **_facts(model),
        "target": target,
    }


def _facts(model: Input) -> dict[str, Any]:
    if model.stage == "pretrain":
        objective = create("pretrain", model.method, model.settings)
        return {"control": False, "needs": list(objective.needs)}
    repair = create(model.stage, model.method, model.settings)
    return {"control": repair.control, "needs": list(repair.needs)}
