"""The options of the commands ``suspects`` and ``mend``."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

from annotated_types import Ge
from typer import Option

from clipmend.methods.settings import OnBadRows
from clipmend.methods.table import METHODS

FOLDERS = {"suspects": Path("suspects"), "mend": Path("mended")}
"""The default results of each command."""
_ON_PAIRS = ", ".join(METHODS["unlearn"])
_ON_TRUSTED = ", ".join(name for name in METHODS["baselines"] if name != "rvpt")  # needs labels
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Options:
    """The options of one call, which the help texts explain.

    Attributes:
        settings: ``STAGE.NAME=VALUE`` each.
        id_column: None: "id" if that column exists; "": none, rows are numbered.
    """

    model: Annotated[
        str,
        Option(
            help="A folder with open_clip_config.json and weights, a weights file with "
            "--architecture, or NAME:TAG of open_clip."
        ),
    ]
    pairs: Annotated[
        Path | None,
        Option(
            help="The pairs that the model was trained on: a parquet file, a webdataset shard, a "
            "folder of either, or a CSV with images."
        ),
    ] = None
    trusted: Annotated[
        Path | None,
        Option(help="Clean pairs that you trust, for the repairs that train on such pairs."),
    ] = None
    out: Annotated[Path, Option(help="Output directory; it must be empty or not exist.")] = Path()
    architecture: Annotated[
        str | None, Option(help="The open_clip name of the model, or its .json config.")
    ] = None
    early: Annotated[
        Path | None,
        Option(help="Weights from early in training, which --method ubt and abl read."),
    ] = None
    seed: Annotated[int, Ge(0), Option(min=0, help="Random seed.")] = 0
    limit: Annotated[int | None, Ge(1), Option(min=1, help="Read the first N pairs only.")] = None
    device: Annotated[Device, Option(help="Where to compute.")] = "auto"
    method: Annotated[
        str,
        Option(
            metavar="REPAIR",
            help=f"The repair, with the detector that it reads. On --pairs: {_ON_PAIRS} (abl also "
            f"needs --early, invertune --trusted). On --trusted, without a search: {_ON_TRUSTED}.",
        ),
    ] = "see_through"
    settings: Annotated[
        list[str] | None,
        Option("--set", help="A setting, such as unlearn.epochs=2; can be repeated."),
    ] = None
    on_bad_rows: Annotated[
        OnBadRows,
        Option(help="Leave out rows that cannot be used (at most a quarter), or refuse all pairs."),
    ] = "skip"
    id_column: Annotated[
        str | None,
        Option(
            help="Name of the id column; '' numbers the rows.",
            show_default="id if it exists, else ''",
        ),
    ] = None
    image_column: Annotated[str, Option(help="Name of the image column.")] = "image"
    caption_column: Annotated[str, Option(help="Name of the caption column.")] = "caption"


class Choices(TypedDict, total=False):
    """The further options of ``suspects`` and ``mend`` in Python; ``Options`` explains them."""

    architecture: str | None
    early: str | Path | None
    seed: int
    limit: int | None
    device: Device
    settings: list[str] | None
    on_bad_rows: OnBadRows
    id_column: str | None
    image_column: str
    caption_column: str


def command(name: str) -> Callable[..., None]:
    """Return the function of the command ``suspects`` or ``mend``, which have the same options."""

    def own_model(**options: Any) -> None:
        from clipmend.tools.standalone import run, terminal

        terminal.show({"suspects": run.suspects, "mend": run.mend}[name](Options(**options)))

    # Typer reads the options of a command from its signature.
    options = inspect.signature(Options).parameters
    out = options["out"].replace(default=FOLDERS[name])
    signature = inspect.Signature([*(options | {"out": out}).values()])
    own_model.__signature__ = signature  # type: ignore[attr-defined]
    return own_model
