"""BDetCLIP: a triggered image hardly reacts to another text (Niu et al. 2025, arXiv:2405.15269)."""

from dataclasses import dataclass

import torch

from clipmend.data.words import bare, words_of
from clipmend.errors import ParamsError
from clipmend.methods.input_detection import InputDetector, Operation, Scorer

LEAST_PROMPTS = 3  # fewer do not describe a class beyond its name


@dataclass(frozen=True)
class BDetCLIP(InputDetector):
    """Scores an image by how little it reacts when texts about classes are perturbed.

    Each class has benign texts and perturbed ones. The contrast of an image is the sum over classes
    of its cosine with the mean benign text, less that with the mean perturbed text. The score is
    minus the contrast.

    Differs from the paper: the class prompts of the corpus take the place of a language model's
    descriptions. A perturbed text is a class prompt and a random sentence, as in a public port of
    the paper's code (jsrdcht/SSL-Backdoor, revision 138b78c); here the sentence is a random trusted
    caption without names of classes, one for each prompt. Where classes are few, the target's own
    part of the sum is large: images that are tied to the very prompts then react more, not less.
    """

    def scorer(self, operation: Operation, generator: torch.Generator) -> Scorer:
        """Return a function of images to scores.

        Raises:
            ParamsError: the corpus has too few prompts.
        """
        prompts, captions = operation.vocabulary.prompts, operation.trusted.captions
        if len(prompts) < LEAST_PROMPTS:
            raise ParamsError(
                f"bdetclip needs at least {LEAST_PROMPTS} prompts of each class, and the corpus "
                f"has {len(prompts)}; add prompts, or remove bdetclip."
            )
        names = set().union(*map(words_of, operation.vocabulary.classes))
        direction = torch.zeros(operation.model.embed_dim)
        for name in operation.vocabulary.classes:
            chosen = torch.randint(len(captions), (len(prompts),), generator=generator).tolist()
            sentences = [without(captions[row], names) for row in chosen]
            benign = [prompt.format(name) for prompt in prompts]
            perturbed = [f"{text} {more}" for text, more in zip(benign, sentences, strict=True)]
            direction += operation.mean_text(benign) - operation.mean_text(perturbed)
        return lambda images: -(operation.images(images) @ direction)


def without(caption: str, names: set[str]) -> str:
    """Return a caption without the words of class names."""
    return " ".join(word for word in caption.split() if bare(word) not in names)
