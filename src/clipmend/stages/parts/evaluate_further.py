"""The part of ``evaluate`` that measures the numbers of ``evaluate.further``."""

import json
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.data import artifacts
from clipmend.data.sampling import sample
from clipmend.data.splits import load_split, read_vocabulary
from clipmend.data.streaming import Images
from clipmend.engine.job import Job
from clipmend.methods.attacks.trigger import read_triggers
from clipmend.metrics.linear_probe import linear_probe
from clipmend.metrics.rates import Measured, attack_success_rate, clean_accuracy
from clipmend.metrics.retrieval import retrieval
from clipmend.model.clip import Clip, embed_images, embed_texts, load
from clipmend.model.zero_shot import class_embeds

_PAIRS = 1000  # for retrieval; more pairs make the task harder, so their number is fixed


def run(job: Job) -> None:
    """Add numbers to the ``metrics.json`` that ``evaluate`` has written.

    Reads  ``test.parquet``, ``classes.json``; the model; the trigger; for a linear probe
    ``val.parquet``; for a swap of towers the clean model.
    """
    subject = _Subject(job)
    measure = {
        "retrieval": subject.retrieval,
        "linear_probe": subject.linear_probe,
        "tower_swap": subject.tower_swap,
    }
    measured: dict[str, Measured] = {}
    for name in job.shared["further"]:
        measured |= measure[name]()
    path = job.out / artifacts.METRICS
    content = json.loads(path.read_text(encoding="utf-8"))
    definitions = content.pop("definitions")
    content |= {name: entry.number.as_dict() for name, entry in measured.items()}
    content["definitions"] = definitions | {name: one.meaning for name, one in measured.items()}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


class _Subject:
    """A model and the data that it is measured on; each image is embedded once."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._corpus = job.inputs["corpus"].folder
        self._confidence = job.shared["confidence"]
        self._vocabulary = read_vocabulary(self._corpus)
        self._test = load_split(self._corpus, "test")
        triggers = {trigger.name: trigger for trigger in read_triggers(job.inputs["trigger"])}
        self._trigger = triggers[job.place.trigger]
        self._target_label = self._vocabulary.label_of(self._trigger.target)
        self._model = self._loaded("model")

    def _loaded(self, role: str) -> Clip:
        model = load(self._job.inputs[role].folder).to(self._job.device)
        model.fold_batch_norms()
        return model

    @cached_property
    def _triggered_images(self) -> Images:
        return self._trigger.on(self._test)

    @cached_property
    def _plain(self) -> Float[Tensor, "samples dim"]:
        return embed_images(self._model, self._test.images)

    @cached_property
    def _triggered(self) -> Float[Tensor, "samples dim"]:
        return embed_images(self._model, self._triggered_images)

    def retrieval(self) -> dict[str, Measured]:
        """Return the recall of captions and of images, on sampled test pairs."""
        rows = sample(self._test.ids, _PAIRS)
        captions = [self._test.captions[row] for row in rows.tolist()]
        column = {caption: number for number, caption in enumerate(dict.fromkeys(captions))}
        texts = embed_texts(self._model, self._model.tokenize(list(column)))
        own = torch.tensor([column[caption] for caption in captions])
        return retrieval(self._plain[rows] @ texts.T, own, confidence=self._confidence)

    def linear_probe(self) -> dict[str, Measured]:
        """Return the rates of a linear classifier on frozen embeddings."""
        val = load_split(self._corpus, "val")
        return linear_probe(
            (embed_images(self._model, val.images), val.label),
            self._plain,
            self._triggered,
            self._test.label,
            target_label=self._target_label,
            confidence=self._confidence,
        )

    def tower_swap(self) -> dict[str, Measured]:
        """Return the rates of each tower beside the other tower of the clean model."""
        if "clean" not in self._job.inputs:  # the victim was never poisoned
            return {}
        clean = self._loaded("clean")
        of_clean = (
            embed_images(clean, self._test.images),
            embed_images(clean, self._triggered_images),
        )
        return {
            **self._swapped("image", (self._plain, self._triggered), clean),
            **self._swapped("text", of_clean, self._model),
        }

    def _swapped(
        self, tower: str, embeds: tuple[Tensor, Tensor], texts: Clip
    ) -> dict[str, Measured]:
        """Return the rates of embeddings of clean and triggered images beside a text tower."""
        plain = embeds[0] @ class_embeds(texts, self._vocabulary).T
        prompts = self._trigger.vocabulary(self._vocabulary)
        attacked = embeds[1] @ class_embeds(texts, prompts).T
        label, confidence = self._test.label, self._confidence
        accuracy = clean_accuracy(plain, label, confidence=confidence)
        success = attack_success_rate(
            attacked, label, target_label=self._target_label, confidence=confidence
        )
        what = f"the model's {tower} tower beside the other tower of the unpoisoned victim"
        return {
            f"swap_{tower}_accuracy": Measured(accuracy, f"clean accuracy of {what}"),
            f"swap_{tower}_attack_success_rate": Measured(
                success, f"attack success rate of {what}"
            ),
        }
