"""The stage ``evaluate``: measure a model on `test`, which no other stage reads."""

import json
from dataclasses import dataclass
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor

from clipmend.data import artifacts
from clipmend.data.sampling import sample
from clipmend.data.seeds import seed_of
from clipmend.data.splits import Pairs, load_split, read_vocabulary
from clipmend.data.streaming import Images
from clipmend.engine.job import Job
from clipmend.methods.attacks.trigger import prompts_under, read_triggers
from clipmend.methods.table import create
from clipmend.metrics.adversarial import Budget
from clipmend.metrics.autoattack import ensemble_robustness
from clipmend.metrics.rates import (
    DEFINITIONS,
    Measured,
    attack_success_rate,
    clean_accuracy,
    suffixed,
)
from clipmend.metrics.robustness import Attacked, robustness
from clipmend.metrics.triggered import DEFINITION, triggered_accuracy
from clipmend.model.clip import Clip, load
from clipmend.model.zero_shot import class_cosines, class_embeds

_TOP5_FROM = 11  # classes; with ten or fewer, top-5 accuracy says little


def run(job: Job) -> None:
    """Measure a model under a trigger.

    Reads  ``test.parquet`` and ``classes.json``; the model; the trigger.
    Writes ``metrics.json``: each number with its definition and its n, each rate with its interval.
    """
    subject = _subject(job)
    measured = _accuracies(subject) | _attack_success(subject) | _robustness(subject, job)
    # Columns of tables keep their places: a new number comes last.
    measured["triggered_accuracy"] = measured.pop("triggered_accuracy")
    content = {
        **_identity(job, subject.target),
        **{name: entry.number.as_dict() for name, entry in measured.items()},
        "definitions": {name: entry.meaning for name, entry in measured.items()},
    }
    (job.out / artifacts.METRICS).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class _Subject:
    """A model and the data that it is measured on.

    Attributes:
        triggered: the test images with the trigger.
        classes: the zero-shot classifier.
        triggered_classes: the zero-shot classifier of the attacker, whose prompts may have a text
            trigger.
        has_text_trigger: whether they have.
    """

    model: Clip
    test: Pairs
    triggered: Images
    classes: Float[Tensor, "classes dim"]
    triggered_classes: Float[Tensor, "classes dim"]
    has_text_trigger: bool
    target: str
    target_label: int
    confidence: float


def _subject(job: Job) -> _Subject:
    corpus = job.inputs["corpus"].folder
    vocabulary = read_vocabulary(corpus)
    test = load_split(corpus, "test")
    # An attack may have several triggers; the cell names one of them.
    triggers = {trigger.name: trigger for trigger in read_triggers(job.inputs["trigger"])}
    trigger = triggers[job.place.trigger]
    prompts = prompts_under([trigger], vocabulary)
    model = load(job.inputs["model"].folder).prune_vocabulary(prompts).to(job.device)
    model.fold_batch_norms()
    return _Subject(
        model=model,
        test=test,
        triggered=trigger.on(test),
        classes=class_embeds(model, vocabulary),
        triggered_classes=class_embeds(model, trigger.vocabulary(vocabulary)),
        has_text_trigger=trigger.vocabulary(vocabulary) != vocabulary,
        target=trigger.target,
        target_label=vocabulary.label_of(trigger.target),
        confidence=job.shared["confidence"],
    )


def _accuracies(subject: _Subject) -> dict[str, Measured]:
    label, confidence = subject.test.label, subject.confidence
    cosines = class_cosines(subject.model, subject.test.images, subject.classes)
    rates = {"clean_accuracy": clean_accuracy(cosines, label, confidence=confidence)}
    if len(subject.classes) >= _TOP5_FROM:
        top5 = clean_accuracy(cosines, label, top=5, confidence=confidence)
        rates["clean_accuracy_top5"] = top5
    # An ASR of 0 is not a success if the repaired model has forgotten the target.
    if (own := label == subject.target_label).any():
        own_accuracy = clean_accuracy(cosines[own], label[own], confidence=confidence)
        rates["target_accuracy"] = own_accuracy
    return {name: Measured(number, DEFINITIONS[name]) for name, number in rates.items()}


def _attack_success(subject: _Subject) -> dict[str, Measured]:
    """Return ASR and triggered accuracy; for image and text triggers, the ASR of each alone."""
    label = subject.test.label
    success, seen = (
        partial(kind, target_label=subject.target_label, confidence=subject.confidence)
        for kind in (attack_success_rate, triggered_accuracy)
    )

    def cosines(images: Images, classes: Tensor) -> Tensor:
        return class_cosines(subject.model, images, classes)

    name = "attack_success_rate"
    meaning = DEFINITIONS[name]
    both = cosines(subject.triggered, subject.triggered_classes)
    rates = {
        name: Measured(success(both, label), meaning),
        "triggered_accuracy": Measured(seen(both, label), DEFINITION),
    }
    if subject.has_text_trigger:
        parts = (
            cosines(subject.triggered, subject.classes),
            cosines(subject.test.images, subject.triggered_classes),
        )
        image, text = (success(part, label) for part in parts)
        rates[f"{name}_image"] = Measured(image, f"{meaning}; the trigger in the image alone")
        rates[f"{name}_text"] = Measured(text, f"{meaning}; the trigger in the prompts alone")
    return rates


def _robustness(subject: _Subject, job: Job) -> dict[str, Measured]:
    """Return the robustness at each bound, on test images that are sampled by id."""
    adversarial, confidence = job.shared["adversarial"], subject.confidence
    # The same images for all models: the sample depends on the ids alone.
    rows = sample(subject.test.ids, adversarial["images"])
    attacked = Attacked(
        images=subject.test.images[rows],
        triggered=subject.triggered[rows],
        label=subject.test.label[rows],
        classes=subject.classes,
        target_label=subject.target_label,
    )
    seed = seed_of(job.seed or 0, "evaluate/ensemble") % 2**31
    measured: dict[str, Measured] = {}
    for epsilon in adversarial["epsilons"]:
        budget = Budget(epsilon / 255, adversarial["steps"])
        numbers = robustness(subject.model, attacked, budget, confidence=confidence)
        if adversarial["ensemble"]:
            numbers |= ensemble_robustness(
                subject.model, attacked, budget.epsilon, confidence=confidence, seed=seed
            )
        measured |= suffixed(numbers, f"eps{epsilon}")
    return measured


def _identity(job: Job, target: str) -> dict[str, Any]:
    place, model = job.place, job.inputs["model"]
    method = create(model.stage, model.method, model.settings)
    return {
        "corpus": place.corpus,
        "attack": place.attack,
        "trigger": place.trigger,
        "objective": place.objective,
        "seed": job.seed,
        "stage": model.stage,
        "method": place.method,
        "control": getattr(method, "control", False),  # an objective is none
        "needs": list(method.needs),
        "target": target,
    }
