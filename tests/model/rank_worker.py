"""The program of each rank, as torchrun would start it: `rank_worker.py <folder>`."""

import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import torch

from clipmend.data.artifacts import TRAIN
from clipmend.data.images import encode
from clipmend.data.pairs import table_of, write_pairs
from clipmend.data.row_groups import Encoded
from clipmend.data.seeds import stream
from clipmend.data.splits import Pairs
from clipmend.data.streaming import EncodedImages
from clipmend.errors import TrainingError
from clipmend.methods.table import create
from clipmend.model.batch_losses import multimodal
from clipmend.model.checkpoint import Point
from clipmend.model.clip import Clip, build
from clipmend.model.fit import Hooks, Schedule, Task, fit
from clipmend.model.parallel import ALONE, join, leave, synced

WORDS = ["a", "photo", "of", "the", "red", "green", "dog", "cat", "banana", "tree", "car", "house"]
RUNS = ("mmcl", "mmcl_ssl", "roclip", "chunked", "singly", "transformer")
SETTINGS = {"epochs": 2, "batch_size": 16, "early_epoch": 1}
TRANSFORMER = {  # without batch norm, so that the loss alone joins the samples of a batch
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


def pairs(count: int = 39) -> Pairs:
    """Return pairs whose last batch is incomplete and has an odd number of pairs."""
    generator = torch.Generator().manual_seed(1)
    words = torch.randint(len(WORDS), (count, 6), generator=generator).tolist()
    images = torch.randint(0, 256, (count, 3, 32, 32), generator=generator).to(torch.uint8)
    return Pairs(
        ids=tuple(map(str, range(count))),
        images=images,
        captions=tuple(" ".join(WORDS[number] for number in row) for row in words),
        label=torch.full((count,), -1),
        is_poisoned=torch.zeros(count, dtype=torch.bool),
    )


def write(folder: Path) -> None:
    """Write the pairs as a split."""
    train = pairs()
    images = [encode(image) for image in train.images]
    columns = {"id": train.ids, "image": images, "caption": train.captions}
    write_pairs(table_of(columns | {"label": [None] * len(train)}), folder / TRAIN)


def encoded_pairs(folder: Path) -> Pairs:
    """Return the pairs with images that are decoded at each access."""
    no_overlay = pa.chunked_array([], pa.binary())
    source = Encoded(folder / TRAIN, pairs().ids, {}, no_overlay)
    return replace(pairs(), images=EncodedImages(source, 32))


def prepare(name: str, train: Pairs, folder: Path) -> tuple[Clip, Task]:
    """Return the model and the task of one of ``RUNS``."""
    architecture = "scene_resnet"
    if name in ("transformer", "chunked", "singly"):
        architecture = str(folder / "transformer.json")
    objective = name if name in ("mmcl_ssl", "roclip") else "mmcl"
    every = {"every": 2} if name == "roclip" else {}
    method = create("pretrain", objective, SETTINGS | every)
    model = build(architecture, seed=0).prune_vocabulary([*train.captions, *method.texts()])
    # With chunks of one row, a rank with three of the last seven rows has a fourth, empty chunk.
    model.chunk = {"chunked": 5, "singly": 1}.get(name)
    model.double()  # so that rounding does not hide a mistake
    task = method.task(model, train, stream(0, "views"))
    if isinstance(task.loss, torch.nn.Module):
        task.loss.double()
    return model, task


def trained(
    name: str,
    folder: Path,
    hooks: Hooks = Hooks(),  # noqa: B008
    train: Pairs | None = None,
) -> tuple[Clip, list[Point]]:
    """Return the model and the curve of a run in the processes that torchrun started."""
    train, ranks = train or pairs(), join("cpu")
    model, task = prepare(name, train, folder)
    model.ranks = ranks
    if ranks != ALONE:
        synced(model.net, "cpu")
    return model, fit(model, task, stream(0, "fit"), hooks)


class KilledError(Exception):
    """Replaces a kill of all ranks."""


def killed_and_resumed(folder: Path) -> Clip:
    """Return the model of a run that is killed inside its second epoch, and resumed."""
    steps: list[int] = []

    def dying(model: Clip, batch: object, generator: torch.Generator) -> torch.Tensor:
        if len(steps) == 4:
            raise KilledError
        steps.append(1)
        return multimodal(model, batch, generator)  # type: ignore[arg-type]

    hooks = Hooks(work=folder / "work", every=0.0)
    model, task = prepare("mmcl", pairs(), folder)
    model.ranks = join("cpu")
    synced(model.net, "cpu")
    try:
        fit(model, replace(task, loss=dying), stream(0, "fit"), hooks)
    except KilledError:
        return trained("mmcl", folder, hooks)[0]
    raise AssertionError("the run was not killed")


def with_other_data(folder: Path) -> str:
    """Return the error of a run whose second rank reads another file."""
    ranks, train = join("cpu"), pairs()
    if not ranks.leads:
        train = replace(train, captions=(*train.captions[:-1], "a small green car"))
    model, _ = prepare("mmcl", pairs(), folder)
    model.ranks = ranks
    task = Task(train, multimodal, Schedule(epochs=1, batch_size=16, lr=1e-3))
    try:
        fit(model, task, stream(0, "fit"))
    except TrainingError as error:
        return str(error)
    return "trained"


def main() -> None:
    """Write the weights of every run, and the loss of each epoch."""
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    rank = join("cpu").rank
    for name in RUNS:
        model, curve = trained(name, folder)
        losses = torch.tensor([point.loss for point in curve], dtype=torch.float64)
        torch.save({**model.net.state_dict(), "losses": losses}, folder / f"{name}.{rank}.pt")
    encoded = trained("mmcl", folder, train=encoded_pairs(folder))[0]
    torch.save(encoded.net.state_dict(), folder / f"encoded.{rank}.pt")
    torch.save(killed_and_resumed(folder).net.state_dict(), folder / f"resumed.{rank}.pt")
    (folder / f"other.{rank}.txt").write_text(with_other_data(folder))
    leave(join("cpu"))


if __name__ == "__main__":
    main()
