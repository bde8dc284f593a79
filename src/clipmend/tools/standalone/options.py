"""The options of the commands ``suspects`` and ``mend``."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from typer import Option

FOLDERS = {"suspects": "suspects", "mend": "mended"}
"""Command -> the default folder of its results."""

Device = Literal["auto", "cpu", "cuda"]

_Model = Annotated[
    str,
    Option(
        help="A folder with open_clip_config.json and weights, a weights file with "
        "--architecture, or NAME:TAG of open_clip."
    ),
]
_Pairs = Annotated[
    Path,
    Option(help="A parquet file, a webdataset shard, a folder of either, or a CSV with images."),
]
_Out = Annotated[Path, Option(help="Output directory; it must be empty or not exist.")]
_Architecture = Annotated[
    str | None, Option(help="The open_clip name of the model, or its .json config.")
]
_Early = Annotated[
    Path | None, Option(help="Weights from early in training; the pre-scoring then uses them.")
]
_Seed = Annotated[int, Option(min=0, help="Random seed.")]
_Limit = Annotated[int | None, Option(min=1, help="Read the first N pairs only.")]
_Device = Annotated[Device, Option(help="Where to compute.")]
_Settings = Annotated[
    list[str] | None,
    Option("--set", help="A setting of UBT, such as detect.epochs=2; can be repeated."),
]
_Id = Annotated[
    str | None,
    Option(
        help="Name of the id column; '' numbers the rows.", show_default="id if it exists, else ''"
    ),
]
_Image = Annotated[str, Option(help="Name of the image column.")]
_Caption = Annotated[str, Option(help="Name of the caption column.")]


@dataclass(frozen=True)
class Names:
    """The column names of the user's files.

    Attributes:
        id: None: "id" if that column exists; "": none, rows are numbered.
    """

    id: str | None
    image: str
    caption: str


@dataclass(frozen=True)
class Options:
    """The options of one call; see the help texts above.

    Attributes:
        out: the folder of the results.
        names: of the columns.
        settings: ``STAGE.NAME=VALUE`` each.
    """

    model: str
    pairs: Path
    out: Path
    architecture: str | None
    early: Path | None
    seed: int
    limit: int | None
    device: Device
    settings: tuple[str, ...]
    names: Names


def command(name: str) -> Callable[..., None]:
    """Return the function of the command ``suspects`` or ``mend``, which have the same options."""

    def own_model(  # noqa: PLR0913  (a command has an argument for each option)
        model: _Model,
        pairs: _Pairs,
        out: _Out = Path(FOLDERS[name]),
        architecture: _Architecture = None,
        early: _Early = None,
        seed: _Seed = 0,
        limit: _Limit = None,
        device: _Device = "auto",
        settings: _Settings = None,
        id_column: _Id = None,
        image_column: _Image = "image",
        caption_column: _Caption = "caption",
    ) -> None:
        from clipmend.tools.standalone import run

        work = {"suspects": run.suspects, "mend": run.mend}[name]
        names, chosen = Names(id_column, image_column, caption_column), tuple(settings or ())
        work(Options(model, pairs, out, architecture, early, seed, limit, device, chosen, names))

    return own_model
