"""The stage ``evaluate``: a model's CA and ASR, on `test`, which no other stage reads."""

import json
from typing import Any

from clipmend.attacks.trigger import read_trigger
from clipmend.clip.model import load
from clipmend.clip.zero_shot import class_cosines, class_embeds, prompts_of
from clipmend.corpus.splits import load_split, read_vocabulary
from clipmend.job import Input, Job
from clipmend.measure.metrics import DEFINITIONS, Rate, attack_success_rate, clean_accuracy
from clipmend.methods import create

_TOP5_FROM = 11  # classes; with ten or fewer, top-5 says little


def run(job: Job) -> None:
    """Measure a model under a trigger.

    Reads  ``test.parquet`` and ``classes.json``, the model, the trigger.
    Writes ``metrics.json``: what was measured on what, each rate with its interval and n.
    """
    rates = _rates(job)
    stated = {
        **_identity(job),
        **{name: rate.as_dict() for name, rate in rates.items()},
        "definitions": {name: DEFINITIONS[name] for name in rates},
    }
    (job.out / "metrics.json").write_text(json.dumps(stated, indent=1) + "\n")


def _rates(job: Job) -> dict[str, Rate]:
    corpus = job.inputs["corpus"].folder
    confidence: float = job.shared["confidence"]
    vocabulary = read_vocabulary(corpus)
    test = load_split(corpus, "test")
    trigger = read_trigger(job.inputs["trigger"])
    model = load(job.inputs["model"].folder).narrow(prompts_of(vocabulary)).to(job.device)
    classes = class_embeds(model, vocabulary)
    clean = class_cosines(model, test.images, classes)
    triggered = class_cosines(model, trigger(test.images, test.ids), classes)
    rates = {"clean_accuracy": clean_accuracy(clean, test.label, confidence=confidence)}
    if len(vocabulary.classes) >= _TOP5_FROM:
        rates["clean_accuracy_top5"] = clean_accuracy(
            clean, test.label, top=5, confidence=confidence
        )
    rates["attack_success_rate"] = attack_success_rate(
        triggered,
        test.label,
        target_label=vocabulary.label_of(trigger.target),
        confidence=confidence,
    )
    return rates


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
        return {"control": False, "needs": []}
    repair = create(model.stage, model.method, model.settings)
    return {"control": repair.control, "needs": list(repair.needs)}
