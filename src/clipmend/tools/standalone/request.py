"""What a practitioner asks for: the options of ``suspects`` and ``mend``, which are the same."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from clipmend.errors import ClipmendError

MODEL = "model"  # the folder, inside that of the results, which plain open_clip loads
RESULTS = {"suspects": "suspects", "mend": "mended"}  # by command


@dataclass(frozen=True)
class Request:
    """One call of a command; what stands beside a field is its help."""

    model: Annotated[
        str,
        Option(
            help="A folder with open_clip_config.json and weights, a file of weights "
            "(with --architecture), or open_clip's NAME:TAG."
        ),
    ]
    pairs: Annotated[
        Path,
        Option(
            help="A parquet file, a webdataset shard, a folder of either, or a folder with a CSV "
            "file and images."
        ),
    ]
    out: Annotated[
        Path | None,
        Option(help="A folder that is empty, or new.", show_default=" or ".join(RESULTS.values())),
    ] = None
    architecture: Annotated[
        str | None, Option(help="The model's open_clip name, or its .json config.")
    ] = None
    early: Annotated[
        Path | None,
        Option(help="The model early in its training: the first look is then taken with it."),
    ] = None
    seed: Annotated[int, Option(min=0, help="Draws views and order.")] = 0
    limit: Annotated[int | None, Option(min=1, help="Look at the first N pairs only.")] = None
    device: Annotated[Literal["auto", "cpu", "cuda"], Option(help="Where to compute.")] = "auto"
    settings: Annotated[
        list[str] | None,
        Option("--set", help="A setting of UBT, such as detect.epochs=2; may be repeated."),
    ] = None
    id_column: Annotated[
        str | None,
        Option(help="'' numbers the rows.", show_default="id if there is one, else ''"),
    ] = None
    image_column: Annotated[str, Option(help="What the pairs call it.")] = "image"
    caption_column: Annotated[str, Option(help="What the pairs call it.")] = "caption"


def command(name: str) -> Callable[..., None]:
    """Return what typer calls: a function whose options are the fields of ``Request``."""

    def call(**given: object) -> None:
        from clipmend.tools.standalone import work

        do: Callable[[Request, Path], None] = getattr(work, name)
        request = Request(**given)  # type: ignore[arg-type]
        do(request, request.out or Path(RESULTS[name]))

    call.__signature__ = inspect.signature(Request)  # type: ignore[attr-defined]
    call.__annotations__ = {**Request.__annotations__, "return": None}
    return call


def check_empty(folder: Path) -> None:
    """Refuse a folder that has anything in it, before anything is computed.

    Raises:
        ClipmendError: results would be mixed with what is there.
    """
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists():
        what = "is not empty" if folder.is_dir() else "is a file"
        raise ClipmendError(
            f"{folder} {what}; results go to an empty or a new folder. Name another one by --out."
        )


def make_folder(folder: Path) -> None:
    """Make the folder of the results.

    Raises:
        ClipmendError: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ClipmendError(f"{folder} cannot be made: {error.strerror}; name another.") from error
