"""The part of ``evaluate`` that measures the numbers of ``evaluate.further``."""

import json

import torch

from clipmend.data import artifacts
from clipmend.data.sampling import sample
from clipmend.data.splits import load_split, read_vocabulary
from clipmend.engine.job import Job
from clipmend.methods.attacks.trigger import Trigger, prompts_under, read_triggers
from clipmend.metrics.linear_probe import linear_probe
from clipmend.metrics.rates import Measured, attack_success_rate, clean_accuracy
from clipmend.metrics.retrieval import retrieval
from clipmend.model.clip import Clip, embed_images, embed_texts, load
from clipmend.model.zero_shot import class_cosines, class_embeds

_PAIRS = 1000  # for retrieval; more pairs make the task harder, so their number is fixed


def run(job: Job) -> None:
    """Add numbers to the ``metrics.json`` that ``evaluate`` has written.

    Reads  ``test.parquet``, ``classes.json``; the model; the trigger; for a linear probe
    ``val.parquet``; for a swap of towers the clean model.
    """
    measure = {"retrieval": _retrieval, "linear_probe": _probe, "tower_swap": _swap}
    model = load(job.inputs["model"].folder).to(job.device)
    measured: dict[str, Measured] = {}
    for name in job.shared["further"]:
        measured |= measure[name](job, model)
    path = job.out / artifacts.METRICS
    content = json.loads(path.read_text(encoding="utf-8"))
    definitions = content.pop("definitions")
    content |= {name: entry.number.as_dict() for name, entry in measured.items()}
    content["definitions"] = definitions | {name: one.meaning for name, one in measured.items()}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _trigger(job: Job) -> Trigger:
    triggers = {trigger.name: trigger for trigger in read_triggers(job.inputs["trigger"])}
    return triggers[job.place.trigger]


def _retrieval(job: Job, model: Clip) -> dict[str, Measured]:
    test = load_split(job.inputs["corpus"].folder, "test")
    pairs = test.take(sample(test.ids, _PAIRS))
    column = {caption: number for number, caption in enumerate(dict.fromkeys(pairs.captions))}
    texts = embed_texts(model, model.tokenize(list(column)))
    caption = torch.tensor([column[caption] for caption in pairs.captions])
    cosines = embed_images(model, pairs.images) @ texts.T
    return retrieval(cosines, caption, confidence=job.shared["confidence"])


def _probe(job: Job, model: Clip) -> dict[str, Measured]:
    corpus, trigger = job.inputs["corpus"].folder, _trigger(job)
    val, test = load_split(corpus, "val"), load_split(corpus, "test")
    return linear_probe(
        (embed_images(model, val.images), val.label),
        embed_images(model, test.images),
        embed_images(model, trigger.on(test)),
        test.label,
        target_label=read_vocabulary(corpus).label_of(trigger.target),
        confidence=job.shared["confidence"],
    )


def _swap(job: Job, model: Clip) -> dict[str, Measured]:
    """Return the rates of each tower beside the other tower of the clean model."""
    if "clean" not in job.inputs:  # the victim was never poisoned
        return {}
    corpus, trigger, confidence = (
        job.inputs["corpus"].folder,
        _trigger(job),
        job.shared["confidence"],
    )
    vocabulary, test = read_vocabulary(corpus), load_split(corpus, "test")
    clean = load(job.inputs["clean"].folder).to(job.device)
    prompts = prompts_under([trigger], vocabulary)
    towers = {"image": (model, clean), "text": (clean, model)}
    measured: dict[str, Measured] = {}
    for name, (images, texts) in towers.items():
        texts.prune_vocabulary(prompts)
        plain = class_cosines(images, test.images, class_embeds(texts, vocabulary))
        attacked = class_cosines(
            images, trigger.on(test), class_embeds(texts, trigger.vocabulary(vocabulary))
        )
        what = f"the model's {name} tower beside the other tower of the unpoisoned victim"
        accuracy = clean_accuracy(plain, test.label, confidence=confidence)
        success = attack_success_rate(
            attacked,
            test.label,
            target_label=vocabulary.label_of(trigger.target),
            confidence=confidence,
        )
        measured |= {
            f"swap_{name}_accuracy": Measured(accuracy, f"clean accuracy of {what}"),
            f"swap_{name}_attack_success_rate": Measured(success, f"attack success rate of {what}"),
        }
    return measured
