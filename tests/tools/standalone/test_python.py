"""``from clipmend import suspects, mend``: the commands' options, and what they return."""

import inspect
from dataclasses import fields
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from clipmend import mend, suspects
from clipmend.engine.job import Input
from clipmend.errors import ParamsError
from clipmend.tools.standalone.options import Choices, Options


def test_both_take_every_option_of_the_commands() -> None:
    named = {*inspect.signature(mend).parameters} - {"choices"}
    assert named | Choices.__annotations__.keys() == {field.name for field in fields(Options)}
    assert {*inspect.signature(suspects).parameters} <= {*named, "choices"}


def test_they_return_the_finding_the_ranking_and_the_model(
    victim: Input, pairs: Path, folder: Path
) -> None:
    found = suspects(victim.folder, str(pairs), limit=200, seed=1)
    assert found.ranked is not None
    assert found.ranked.equals(pq.read_table(folder / "suspects" / "suspects.parquet"))
    assert found.says == found.finding["says"]
    assert found.model is None
    settings = ["baselines.epochs=1", "baselines.batch_size=32"]
    mended = mend(victim.folder, trusted=pairs, method="ft", out="here", settings=settings)
    assert (mended.found, mended.ranked, mended.finding) == (None, None, {})
    assert mended.model == Path("here/model")
    assert (folder / "here" / "model" / "model.safetensors").is_file()


def test_a_mistake_is_an_error_before_anything_is_written(
    victim: Input, pairs: Path, folder: Path
) -> None:
    with pytest.raises(ParamsError, match="add --trusted"):
        mend(victim.folder, pairs, method="cleanclip")
    with pytest.raises(TypeError, match="sead"):
        mend(victim.folder, pairs, sead=1)  # type: ignore[call-arg]
    assert not list(folder.iterdir())
