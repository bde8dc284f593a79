"""What JPEG compression leaves of the triggers: of their change to an image, and of their ASR.

Reads the poison, the undefended victims and `val` of the finished run in this folder.

python studies/jpeg/make.py [--qualities 95 75 50] > studies/jpeg/README.md
"""

import argparse
import io
from collections.abc import Sequence

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from clipmend.data.images import decode_all
from clipmend.data.splits import load_split, read_vocabulary
from clipmend.engine.cell import RESULTS, UNPOISONED
from clipmend.engine.job import Input
from clipmend.engine.runner import inputs_below
from clipmend.methods.attacks.trigger import Trigger, prompts_under, read_triggers
from clipmend.metrics.rates import attack_success_rate
from clipmend.model.clip import load
from clipmend.model.zero_shot import class_cosines, class_embeds

Images = UInt8[Tensor, "samples 3 height width"]
PAGE = """\
# What JPEG leaves of the triggers

Written by `studies/jpeg/make.py` after a run of `params.yaml`, in percent. Each row is measured on
{n:,} triggered images of `val` (of true classes other than the target), with an undefended victim
that was trained on triggered images without JPEG. *Left* is the share of the trigger's change that
remains between the two compressed images. Pillow encodes, with color at half resolution.

{table}"""


def compressed(images: Images, quality: int) -> Images:
    """Return the images after JPEG, as Pillow writes it by default: color at half resolution."""
    encoded = []
    for row, image in enumerate(images):
        buffer = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=quality)
        encoded.append((str(row), buffer.getvalue()))
    return decode_all(encoded, len(images), images.shape[-1])


def left(before: tuple[Images, Images], after: tuple[Images, Images]) -> float:
    """Return the share of the change from clean to triggered that ``after`` still has.

    It is the projection of the change after compression on the change before; 1 is all of it.
    """
    change, rest = ((pair[1].double() - pair[0].double()).flatten(1) for pair in (before, after))
    return float(((change * rest).sum(dim=1) / change.square().sum(dim=1)).mean())


def measure(
    victim: Input, corpus: Input, trigger: Trigger, qualities: Sequence[int]
) -> tuple[int, dict[str, float]]:
    """Return the number of images, and ASR and the change left by the headings of the page."""
    val, vocabulary = load_split(corpus.folder, "val"), read_vocabulary(corpus.folder)
    model = load(victim.folder).prune_vocabulary(prompts_under([trigger], vocabulary))
    classes = class_embeds(model, trigger.vocabulary(vocabulary))
    target = vocabulary.label_of(trigger.target)
    clean, marked, rates, remains, n = val.images[:], trigger(val.images[:], val.ids), {}, {}, 0
    for quality in (None, *qualities):
        images = marked if quality is None else compressed(marked, quality)
        cosines = class_cosines(model, images, classes)
        rate = attack_success_rate(cosines, val.label, target_label=target)
        rates["ASR" if quality is None else f"ASR at {quality}"], n = rate.value, rate.n
        if quality is not None:
            pair = compressed(clean, quality), images
            remains[f"left at {quality}"] = left((clean, marked), pair)
    return n, rates | remains


def page(qualities: Sequence[int]) -> str:
    """Measure every trigger of the run on each of its victims; return the page."""
    cells, count = inputs_below(RESULTS), 0
    lines: list[str] = []
    for victim in [cell for cell in cells.values() if cell.stage == "pretrain"]:
        poison, corpus = (cells[victim.place.at(stage).path] for stage in ("poison", "download"))
        for trigger in [] if poison.method == UNPOISONED else read_triggers(poison):
            count, values = measure(victim, corpus, trigger, qualities)
            if not lines:
                lines.append(f"| trigger | objective | {' | '.join(values)} |\n")
                lines.append(f"|---|---|{'--:|' * len(values)}\n")
            printed = " | ".join(f"{100 * value:.1f}" for value in values.values())
            lines.append(f"| `{trigger.name}` | `{victim.method}` | {printed} |\n")
    if not lines:
        raise SystemExit("This run has no poisoned victim; run `snakemake all` here first.")
    return PAGE.format(n=count, table="".join(lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--qualities", type=int, nargs="+", default=[95, 75, 50])
    torch.set_num_threads(1)
    print(page(parser.parse_args().qualities), end="")
