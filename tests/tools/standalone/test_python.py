"""``from clipmend import suspects, mend``: the commands' options, and what they return."""

import inspect
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"limit": -5}, "limit: Input should be greater than or equal to 1; got -5."),
        ({"limit": 70.5}, "limit: Input should be a valid integer, got a number with a fraction"),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0; got -1."),
        ({"seed": "x"}, "seed: Input should be a valid integer"),
        ({"device": "tpu"}, "device: Input should be 'auto', 'cpu' or 'cuda'; got 'tpu'."),
        ({"on_bad_rows": "ignore"}, "on_bad_rows: Input should be 'skip' or 'refuse'; got 'ign"),
        ({"settings": "detect.level=1"}, "settings: Input should be a valid list; got 'detect."),
        ({"image_column": None}, "image_column: Input should be a valid string; got None."),
        ({"early": 3}, "early: Input is not a valid path"),
    ],
    ids=str,
)
def test_a_value_that_the_command_refuses_is_refused_here_too(
    wrong: dict[str, Any], message: str, victim: Input, pairs: Path, folder: Path
) -> None:
    with pytest.raises(ParamsError, match=re.escape(message)):
        suspects(victim.folder, pairs, **wrong)
    assert not list(folder.iterdir())


def test_the_callers_own_code_finds_all_of_torchvision_and_open_clip() -> None:
    code = """from clipmend import mend
import open_clip, torchvision
print(torchvision.models.resnet18.__name__, torchvision.datasets.CIFAR10.__name__)
print(open_clip.pretrained.has_hf_hub(), open_clip.timm_model.timm.__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "resnet18 CIFAR10\nTrue timm\n"
