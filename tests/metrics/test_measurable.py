"""A corpus on which no backdoor can be measured is refused before training."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipmend.engine.job import Input
from clipmend.errors import MetricError
from clipmend.metrics.measurable import refuse_unmeasurable
from clipmend.model.clip import Clip, build


@pytest.fixture(scope="module")
def model() -> Clip:
    return build("scene_resnet", seed=0)


@pytest.fixture
def folder(corpus: Input, tmp_path: Path) -> Path:
    return Path(shutil.copytree(corpus.folder, tmp_path / "corpus"))


def change(folder: Path, **fields: Any) -> None:
    path = folder / "classes.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize("prompt", ["a {} {x}", "a {0}", "a {", "a {} }", "a", "{}{}", "a {:>5}"])
def test_a_prompt_with_other_braces_is_refused(model, folder, prompt) -> None:
    refuse_unmeasurable(model, folder, ["banana"])
    change(folder, prompts=["a {}", prompt])
    with pytest.raises(MetricError, match="exactly once"):
        refuse_unmeasurable(model, folder, ["banana"])


def test_classes_with_the_same_tokens_are_refused(model, folder) -> None:
    classes = json.loads((folder / "classes.json").read_text())["classes"]
    change(folder, classes=[*classes, "Banana "])
    with pytest.raises(MetricError, match="'banana' and 'Banana ' as the same tokens"):
        refuse_unmeasurable(model, folder, ["banana"])


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_split_of_the_target_alone_is_refused(model, folder, split) -> None:
    path = folder / f"{split}.parquet"
    table = pq.read_table(path)
    column = table.schema.get_field_index("label")
    labels = pa.array(["banana"] * len(table), table.schema.field("label").type)
    pq.write_table(table.set_column(column, table.schema.field("label"), labels), path)
    with pytest.raises(MetricError, match=f"All images of {split}.parquet are of the target"):
        refuse_unmeasurable(model, folder, ["banana"])
