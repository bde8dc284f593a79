"""A check before training: a corpus by which a backdoor can be measured."""

from collections.abc import Iterable
from pathlib import Path

from clipmend.data import artifacts
from clipmend.data.pairs import read_manifest
from clipmend.data.splits import Vocabulary, read_vocabulary
from clipmend.errors import MetricError
from clipmend.model.clip import Clip


def refuse_unmeasurable(model: Clip, corpus: Path, targets: Iterable[str]) -> None:
    """Refuse a corpus on which the evaluation would fail after hours of training.

    Raises:
        MetricError: a prompt has further braces, two classes have the same tokens, or all images
            of ``val`` or ``test`` are of a target class.
    """
    vocabulary = read_vocabulary(corpus)
    for prompt in vocabulary.prompts:
        if prompt.count("{}") != 1 or set("{}") & set(prompt.replace("{}", "")):
            raise MetricError(
                f"The prompt {prompt!r} must contain `{{}}` exactly once, for the name of a class, "
                "and no other braces."
            )
    _refuse_same_tokens(model, vocabulary)
    for name in (artifacts.VAL, artifacts.TEST):
        labels = set(read_manifest(corpus / name)["label"].to_pylist())
        for target in targets:
            if labels == {target}:
                raise MetricError(
                    f"All images of {name} are of the target class {target!r}, so that no attack "
                    "success rate is defined. Add images of other classes to that split."
                )


def _refuse_same_tokens(model: Clip, vocabulary: Vocabulary) -> None:
    """Refuse two classes whose prompts are the same to the model's tokenizer."""
    known: dict[bytes, str] = {}
    for name in vocabulary.classes:
        prompts = [prompt.format(name) for prompt in vocabulary.prompts]
        tokens = model.tokenizer(prompts).numpy().tobytes()
        other = known.setdefault(tokens, name)
        if other != name:
            raise MetricError(
                f"The model reads the classes {other!r} and {name!r} as the same tokens, and "
                "cannot distinguish them. Rename one."
            )
