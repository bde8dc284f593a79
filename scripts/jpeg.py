"""What JPEG leaves of the triggers: of what they change, and of how often they work.

Reads the poison and the undefended victims of a finished run in this folder, and `val`, with no
training. Prints a page for docs/.

python scripts/jpeg.py [--qualities 95 75 50] > docs/results/jpeg.md
"""

import argparse
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from clipmend.data.images import decode_all
from clipmend.data.splits import Pairs, Vocabulary, load_split, read_vocabulary
from clipmend.engine import plan
from clipmend.engine.cell import RESULTS, UNPOISONED
from clipmend.engine.job import Input
from clipmend.engine.runner import input_of
from clipmend.methods.attacks.trigger import Trigger, prompts_under, read_triggers
from clipmend.metrics.rates import attack_success_rate
from clipmend.model.clip import load
from clipmend.model.zero_shot import class_cosines, class_embeds

Images = UInt8[Tensor, "samples 3 height width"]


@dataclass(frozen=True)
class Survival:
    """What a trigger is worth after JPEG.

    Attributes:
        left: share of the trigger's change that is still there, by quality: how far the change
            between the two compressed images goes along the change before.
        success: ASR on `val`, untouched and at each quality, by the heads of their columns.
    """

    trigger: str
    objective: str
    n: int
    left: Mapping[int, float]
    success: Mapping[str, float]


def compressed(images: Images, quality: int) -> Images:
    """Return the images after JPEG, as Pillow writes it by default: color at half resolution."""
    encoded = ((str(row), _jpeg(image, quality)) for row, image in enumerate(images))
    return decode_all(encoded, len(images), images.shape[-1])


def _jpeg(image: UInt8[Tensor, "3 height width"], quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def left(before: tuple[Images, Images], after: tuple[Images, Images]) -> float:
    """Return the share of the change from clean to triggered that ``after`` still has."""
    wanted = (before[1].double() - before[0].double()).flatten(1)
    found = (after[1].double() - after[0].double()).flatten(1)
    return float(((wanted * found).sum(dim=1) / wanted.square().sum(dim=1)).mean())


@dataclass(frozen=True)
class Bench:
    """What all victims of a corpus are measured on.

    Attributes:
        compressed: the images of ``val`` by quality.
    """

    val: Pairs
    vocabulary: Vocabulary
    compressed: Mapping[int, Images]

    @classmethod
    def of(cls, corpus: Path, qualities: Sequence[int]) -> "Bench":
        """Read a corpus, and compress its images once for all victims."""
        val = load_split(corpus, "val")
        clean = {quality: compressed(val.images[:], quality) for quality in qualities}
        return cls(val, read_vocabulary(corpus), clean)


def survival(victim: Input, trigger: Trigger, bench: Bench) -> Survival:
    """Measure one trigger on the victim that was poisoned with it."""
    val, vocabulary = bench.val, bench.vocabulary
    model = load(victim.folder).prune_vocabulary(prompts_under([trigger], vocabulary))
    classes = class_embeds(model, trigger.vocabulary(vocabulary))
    target = vocabulary.label_of(trigger.target)
    marked = trigger(val.images[:], val.ids)
    after = {quality: compressed(marked, quality) for quality in bench.compressed}
    shown = {"ASR": marked} | {f"ASR at {quality}": images for quality, images in after.items()}
    rates = {
        name: attack_success_rate(
            class_cosines(model, images, classes), val.label, target_label=target
        )
        for name, images in shown.items()
    }
    return Survival(
        trigger=trigger.name,
        objective=victim.method,
        n=rates["ASR"].n,
        left={
            quality: left((val.images[:], marked), (clean, after[quality]))
            for quality, clean in bench.compressed.items()
        },
        success={name: rate.value for name, rate in rates.items()},
    )


def survivals(qualities: Sequence[int]) -> Iterator[Survival]:
    """Measure every trigger of the run on each of its victims."""
    cells = plan.load().cells
    bench = cache(lambda corpus: Bench.of(RESULTS / corpus, qualities))
    for victim in [cell for cell in cells.values() if cell.stage == "pretrain"]:
        poison = cells[victim.inputs["poison"]]
        if poison.method == UNPOISONED:
            continue
        for trigger in read_triggers(input_of(poison)):
            yield survival(input_of(victim), trigger, bench(victim.inputs["corpus"]))


PAGE = """\
# What JPEG leaves of the triggers

Written by `scripts/jpeg.py` after a run of `params.yaml`; `val`, {n:,} triggered images a row (of
true classes other than the target), undefended victims, one seed. *Left*: how much of what the
trigger changes is still there between the compressed images, 100 % all of it. Victims were trained
on triggered images without JPEG. Pillow's encoder, color at half resolution.

{table}"""


def table(found: Sequence[Survival]) -> str:
    """Return the table, a line a trigger and objective, in percent."""
    heads = [*found[0].success, *(f"left at {quality}" for quality in found[0].left)]
    lines = [
        f"| trigger | objective | {' | '.join(heads)} |",
        f"|---|---|{'--:|' * len(heads)}",
    ]
    for one in found:
        values = [*one.success.values(), *one.left.values()]
        printed = " | ".join(f"{100 * value:.1f}" for value in values)
        lines.append(f"| `{one.trigger}` | `{one.objective}` | {printed} |")
    return "".join(f"{line}\n" for line in lines)


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--qualities", type=int, nargs="+", default=[95, 75, 50])
    qualities = parser.parse_args().qualities
    torch.set_num_threads(1)
    found = list(survivals(qualities))
    if not found:
        raise SystemExit("This run has no poisoned victim; run `snakemake all` here first.")
    count = max(one.n for one in found)
    print(PAGE.format(n=count, table=table(found)), end="")


if __name__ == "__main__":
    main()
