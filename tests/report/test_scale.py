"""The scale of a corpus: its pairs, poisons, image size and model."""

from clipmend.report.results import Results
from clipmend.report.scale import Scale


def test_the_scale_is_read_from_the_cells(tree) -> None:
    tree.corpus("scenes")
    tree.poison("scenes", "badnet", 0)
    tree.poison("scenes", "unpoisoned", 0)
    shared = {"model": "ViT-B-32", "pretrained": "openai"}
    tree.cell("pretrain/scenes/badnet/mmcl/seed0", "mmcl", shared=shared)
    assert Results(tree.inputs).scales == {
        "scenes": Scale(200, None, {"unpoisoned": 0, "badnet": 17}, None, "ViT-B-32", "openai")
    }


def test_without_its_files_a_corpus_has_the_scale_of_its_settings(tree) -> None:
    tree.cell("download/big", "cc3m", {"train": 500_000, "image_size": 224})
    assert Results(tree.inputs).scales["big"].text() == "500,000 training pairs, 224 pixels"
