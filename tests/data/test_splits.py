"""Reading pairs: manifest order, the overlay in place, nothing a defender may not know."""

from pathlib import Path

import pyarrow as pa
import pytest
import torch

from clipmend.data import splits
from clipmend.data.pairs import OVERLAY, read_pairs, write_pairs
from clipmend.data.sampling import sample
from clipmend.data.splits import load_sample, load_split, read_vocabulary
from clipmend.engine.job import Input
from clipmend.errors import ArtifactError, PairsError


def test_the_overlay_replaces_its_rows_and_no_others(corpus: Input, poison: Input) -> None:
    overlay = poison.folder / "overlay.parquet"
    clean = load_split(corpus.folder, "train")
    laid = load_split(corpus.folder, "train", overlay=overlay)
    changed = set(read_pairs(overlay, OVERLAY)["id"].to_pylist())
    assert laid.ids == clean.ids
    for row, row_id in enumerate(clean.ids):
        same = torch.equal(laid.images[row], clean.images[row])
        assert same == (row_id not in changed)
        assert bool(laid.is_poisoned[row]) == (row_id in changed)


def test_an_overlay_of_another_corpus_is_refused(
    corpus: Input, poison: Input, tmp_path: Path
) -> None:
    overlay = read_pairs(poison.folder / "overlay.parquet", OVERLAY)
    ids = pa.array(["from-elsewhere", *overlay["id"].to_pylist()[1:]])
    strange = overlay.set_column(0, OVERLAY.field("id"), ids)
    write_pairs(strange, tmp_path / "overlay.parquet")
    with pytest.raises(ArtifactError, match="from-elsewhere"):
        load_split(corpus.folder, "train", overlay=tmp_path / "overlay.parquet")


def test_blind_pairs_tell_neither_labels_nor_poison(corpus: Input, poison: Input) -> None:
    overlay = poison.folder / "overlay.parquet"
    blind = load_split(corpus.folder, "train", overlay=overlay).blind()
    assert not blind.is_poisoned.any()
    assert (blind.label == -1).all()


def test_a_truncated_image_names_its_row(corpus: Input, tmp_path: Path) -> None:
    table = read_pairs(corpus.folder / "val.parquet")
    images = table["image"].to_pylist()
    images[3] = images[3][: len(images[3]) // 2]
    write_pairs(
        table.set_column(1, table.schema.field("image"), pa.array(images, pa.binary())),
        tmp_path / "val.parquet",
    )
    (tmp_path / "classes.json").write_text((corpus.folder / "classes.json").read_text())
    with pytest.raises(PairsError, match="val-000003"):
        load_split(tmp_path, "val")


def test_a_file_without_captions_says_so(corpus: Input, tmp_path: Path) -> None:
    table = read_pairs(corpus.folder / "val.parquet").drop_columns(["caption"])
    write_pairs(table, tmp_path / "val.parquet")
    with pytest.raises(ArtifactError, match="lacks \\['caption'\\]"):
        read_pairs(tmp_path / "val.parquet")


def test_labels_are_places_among_the_classes(corpus: Input) -> None:
    vocabulary = read_vocabulary(corpus.folder)
    val = load_split(corpus.folder, "val")
    labels = read_pairs(corpus.folder / "val.parquet")["label"].to_pylist()
    assert [vocabulary.classes[label] for label in val.label.tolist()] == labels


@pytest.mark.parametrize("is_lazy", [False, True])
def test_a_limit_draws_pairs_by_their_ids(
    corpus: Input, monkeypatch: pytest.MonkeyPatch, is_lazy: bool
) -> None:
    whole = load_split(corpus.folder, "val")
    expected = whole.take(sample(whole.ids, 5))
    monkeypatch.setattr(splits, "fits", lambda *_: not is_lazy)
    val = load_sample(corpus.folder, "val", 5)
    assert (val.ids, val.captions) == (expected.ids, expected.captions)
    assert torch.equal(val.images[:], expected.images)
    assert torch.equal(val.label, expected.label)


def test_a_split_of_several_blocks_is_read_as_one(
    corpus: Input, poison: Input, monkeypatch: pytest.MonkeyPatch
) -> None:
    overlay = poison.folder / "overlay.parquet"
    whole = load_split(corpus.folder, "train", overlay=overlay)
    monkeypatch.setattr(splits, "_BLOCK", 7)
    parts = load_split(corpus.folder, "train", overlay=overlay)
    assert (parts.ids, parts.captions) == (whole.ids, whole.captions)
    assert torch.equal(parts.images, whole.images)
    assert torch.equal(parts.label, whole.label)
    assert torch.equal(parts.is_poisoned, whole.is_poisoned)
