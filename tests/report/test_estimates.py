"""Estimated triggers stand beside the true ones, with an error that can be computed by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from clipmend.data import artifacts
from clipmend.report.estimates import DEFINITION
from clipmend.report.figures import estimates
from clipmend.report.findings import findings_text
from clipmend.report.results import Results

SIDE, COUNT = 16, 8
REPAIR = "unlearn/scenes/badnet/mmcl/seed0/ubt"


@pytest.fixture
def estimated(tree):
    """Give the repair of one victim an estimate: the true patch, but half as bright."""
    tree.grid(attacks=["badnet"], objectives=["mmcl"], repairs=["none", "ubt"])
    name = "poison/scenes/badnet/seed0"
    poison = tree.root / name
    shared = {"target": "banana", "target_captions": ["a photo of a {}"]}
    tree.inputs[name] = replace(tree.inputs[name], shared=shared)
    save_file({"patch": torch.ones(3, 6, 6)}, poison / artifacts.TRIGGER_TENSORS)
    clean = np.stack([np.full((SIDE, SIDE, 3), 20 * n, np.uint8) for n in range(COUNT)])
    guess = clean.copy()
    guess[:, 9:15, 9:15] = 128
    rows = [np.concatenate(list(images), axis=1) for images in (clean, guess)]
    Image.fromarray(np.concatenate(rows)).save(tree.root / REPAIR / "pasted-1.png")
    path = tree.root / REPAIR / artifacts.FINDING
    group = {"word": "banana", "n": 40}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"groups": [group]}))
    change = 255.0 - 20 * np.arange(COUNT)
    return Results(tree.inputs), 127 / np.sqrt(np.square(change).mean())


def test_the_error_is_that_of_the_definition(estimated) -> None:
    results, error = estimated
    (one,) = results.estimates
    assert (one.word, one.trigger, one.method) == ("banana", "badnet", "ubt")
    assert one.error == pytest.approx(error)
    (line,) = json.loads(findings_text(results.findings))
    assert line["estimates"] == [
        {"word": "banana", "trigger": "badnet", "error": round(error, 6), "n": COUNT}
    ]
    assert line["definitions"]["estimates"] == DEFINITION


def test_the_figure_shows_clean_true_estimate_and_change(estimated) -> None:
    results, error = estimated
    figure = estimates.plot(results)
    assert figure is not None
    (axes,) = figure.axes
    assert axes.images[0].get_array().shape == (4 * SIDE, 4 * SIDE, 3)
    assert f"error {error:.2f}" in axes.get_title().replace("\n", " ")


def test_without_an_estimate_there_is_no_figure(tree) -> None:
    tree.grid(attacks=["badnet"], objectives=["mmcl"], repairs=["none", "ubt"])
    assert estimates.plot(Results(tree.inputs)) is None
