"""``suspects`` and ``mend`` from Python, with the options of the commands."""

import inspect
from pathlib import Path
from typing import Any, Unpack

from pydantic import TypeAdapter, ValidationError

from clipmend.engine.schema import problems
from clipmend.errors import ParamsError
from clipmend.tools.standalone import run
from clipmend.tools.standalone.options import FOLDERS, Choices, Options
from clipmend.tools.standalone.run import Outcome as Outcome

_METHOD = "see_through"
_OPTIONS = TypeAdapter(Options)


def suspects(
    model: str | Path,
    pairs: str | Path,
    *,
    out: str | Path = FOLDERS["suspects"],
    method: str = _METHOD,
    **choices: Unpack[Choices],
) -> Outcome:
    """Rank pairs by how suspect they are to a model; the model stays as it is.

    Args:
        model: a folder with ``open_clip_config.json`` and weights, a weights file with
            ``architecture``, or ``NAME:TAG`` of open_clip.
        pairs: the pairs that the model was trained on: a parquet file, a webdataset shard, a
            folder of either, or a CSV file with images.
        out: an empty or a new folder for the results.
        method: the repair whose detector ranks the pairs.
        choices: the further options of the command, such as ``seed=1`` or
            ``settings=["detect.level=0.01"]``.

    Returns:
        The finding and the ranked pairs, which are also in ``out``.

    Raises:
        ClipmendError: an option is wrong; nothing has been written then.
    """
    return run.suspects(_options(model, {"pairs": pairs, "out": out}, method, choices))


def mend(
    model: str | Path,
    pairs: str | Path | None = None,
    *,
    trusted: str | Path | None = None,
    out: str | Path = FOLDERS["mend"],
    method: str = _METHOD,
    **choices: Unpack[Choices],
) -> Outcome:
    """Repair a model, and write it to a new folder; without a finding it stays as it is.

    Args:
        model: as for ``suspects``.
        pairs: as for ``suspects``; None, where the repair works on trusted pairs.
        trusted: clean pairs, for the repairs that train on such pairs.
        out: an empty or a new folder for the results. A killed call with the same options goes on.
        method: the repair.
        choices: the further options of the command.

    Returns:
        The finding, the ranked pairs, and the folder of the repaired model.

    Raises:
        ClipmendError: an option is wrong; nothing has been written then.
    """
    paths = {"pairs": pairs, "trusted": trusted, "out": out}
    return run.mend(_options(model, paths, method, choices))


def _options(
    model: str | Path, paths: dict[str, str | Path | None], method: str, choices: Choices
) -> Options:
    """Return the options of a command; a path may be a text."""
    further: dict[str, Any] = dict(choices)
    files = {**paths, "early": further.pop("early", None)}
    further |= {name: path for name, path in files.items() if path is not None}
    given = {"model": str(model), "method": method, **further}
    inspect.signature(Options).bind(**given)  # an unknown name is a TypeError
    try:
        return _OPTIONS.validate_python(given)
    except ValidationError as error:
        raise ParamsError(problems("", error, {})) from None
