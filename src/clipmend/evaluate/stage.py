"""The stage ``evaluate``: a model's CA and ASR, on `test`, which no other stage reads."""

import json
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, UInt8
from torch import Tensor

from clipmend.attacks.trigger import read_trigger
from clipmend.clip.model import Clip, load
from clipmend.clip.zero_shot import class_cosines, class_embeds, prompts_of
from clipmend.corpus.splits import Pairs, load_split, read_vocabulary
from clipmend.evaluate.ensemble import ensemble_definitions, ensemble_robustness
from clipmend.evaluate.robustness import Attacked, definitions, robustness
from clipmend.job import Input, Job
from clipmend.measure.adversarial import Budget
from clipmend.measure.metrics import DEFINITIONS, Rate, attack_success_rate, clean_accuracy
from clipmend.methods import create
from clipmend.seeds import seed_of

_TOP5_FROM = 11  # classes; with ten or fewer, top-5 says little


def run(job: Job) -> None:
    """Measure a model under a trigger.

    Reads  ``test.parquet`` and ``classes.json``, the model, the trigger.
    Writes ``metrics.json``: what was measured on what, each rate with its interval and n.
    """
    bench = _bench(job)
    measured: dict[str, Rate | dict[str, float]] = {**_rates(bench)}
    meanings = {name: DEFINITIONS[name] for name in measured}
    adversarial = job.shared["adversarial"]
    for epsilon in adversarial["epsilons"]:
        budget = Budget(epsilon / 255, adversarial["steps"])
        found, meaning = _robustness(bench, budget, adversarial["images"])
        measured |= {f"{name}_eps{epsilon}": value for name, value in found.items()}
        meanings |= {f"{name}_eps{epsilon}": said for name, said in meaning.items()}
        if adversarial.get("ensemble", False):
            strong, meaning = _ensemble(bench, budget, adversarial["images"], job.seed or 0)
            measured |= {f"{name}_eps{epsilon}": value for name, value in strong.items()}
            meanings |= {f"{name}_eps{epsilon}": said for name, said in meaning.items()}
    stated = {
        **_identity(job),
        **{n: v.as_dict() if isinstance(v, Rate) else v for n, v in measured.items()},
        "definitions": meanings,
    }
    (job.out / "metrics.json").write_text(json.dumps(stated, indent=1) + "\n")


@dataclass(frozen=True)
class _Bench:
    """A model, ready to be measured, and what it is measured on."""

    model: Clip
    test: Pairs
    triggered: UInt8[Tensor, "samples 3 height width"]
    classes: Float[Tensor, "classes dim"]
    target_label: int
    confidence: float


def _bench(job: Job) -> _Bench:
    corpus = job.inputs["corpus"].folder
    vocabulary = read_vocabulary(corpus)
    test = load_split(corpus, "test")
    trigger = read_trigger(job.inputs["trigger"])
    model = load(job.inputs["model"].folder).narrow(prompts_of(vocabulary)).to(job.device)
    return _Bench(
        model=model,
        test=test,
        triggered=trigger(test.images, test.ids),
        classes=class_embeds(model, vocabulary),
        target_label=vocabulary.label_of(trigger.target),
        confidence=job.shared["confidence"],
    )


def _rates(bench: _Bench) -> dict[str, Rate]:
    label, confidence = bench.test.label, bench.confidence
    clean = class_cosines(bench.model, bench.test.images, bench.classes)
    triggered = class_cosines(bench.model, bench.triggered, bench.classes)
    rates = {"clean_accuracy": clean_accuracy(clean, label, confidence=confidence)}
    if len(bench.classes) >= _TOP5_FROM:
        rates["clean_accuracy_top5"] = clean_accuracy(clean, label, top=5, confidence=confidence)
    rates["attack_success_rate"] = attack_success_rate(
        triggered, label, target_label=bench.target_label, confidence=confidence
    )
    return rates


def _robustness(
    bench: _Bench, budget: Budget, images: int
) -> tuple[dict[str, Rate | dict[str, float]], dict[str, str]]:
    """Return the numbers and what they mean, on the first ``images`` test images."""
    attacked = _attacked(bench, images)
    found = robustness(bench.model, attacked, budget, confidence=bench.confidence)
    return found, definitions(budget, len(attacked.images))


def _ensemble(
    bench: _Bench, budget: Budget, images: int, seed: int
) -> tuple[dict[str, Rate], dict[str, str]]:
    """Return the same under AutoAttack."""
    attacked = _attacked(bench, images)
    found = ensemble_robustness(
        bench.model,
        attacked,
        budget.epsilon,
        confidence=bench.confidence,
        seed=seed_of(seed, "evaluate/ensemble") % 2**31,
    )
    return found, ensemble_definitions(budget.epsilon, len(attacked.images))


def _attacked(bench: _Bench, images: int) -> Attacked:
    return Attacked(
        images=bench.test.images[:images],
        triggered=bench.triggered[:images],
        label=bench.test.label[:images],
        classes=bench.classes,
        target_label=bench.target_label,
    )


def _identity(job: Job) -> dict[str, Any]:
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
        "target": job.inputs["trigger"].shared["target"],
    }


def _facts(model: Input) -> dict[str, Any]:
    if model.stage == "pretrain":
        objective = create("pretrain", model.method, model.settings)
        return {"control": False, "needs": list(objective.needs)}
    repair = create(model.stage, model.method, model.settings)
    return {"control": repair.control, "needs": list(repair.needs)}
