"""``params.yaml`` is refused in one line that names the place and what is allowed."""

from pathlib import Path

import pytest

from clipmend.engine import params
from clipmend.errors import ClipmendError

pytestmark = pytest.mark.usefixtures("write_params")


def refused(text: str | None = None) -> str:
    """Return the line that ``params.yaml`` is refused with."""
    if text is not None:
        Path("params.yaml").write_text(text)
    with pytest.raises(ClipmendError) as caught:
        params.load()
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"posion": {}}, "unknown key posion. Did you mean 'poison'?"),
        *(
            (
                {"poison": {"target": "x", "target_captions": ["a {}", text], "methods": []}},
                "poison.target_captions.1: must contain `{}` exactly once, where the target goes; "
                f"got {text!r}.",
            )
            for text in ("a photo", "a {} and a {}", "a {} {0}", "a {x}", "a {", "a {{}}")
        ),
        ({"report": {"galery": 3}}, "unknown key report.galery. Did you mean 'gallery'?"),
        ({"seeds": []}, "seeds: "),
        ({"seeds": [0, 0]}, "seeds: 0 is listed twice; got [0, 0]."),
        ({"seeds": [-1]}, "seeds.0: "),
        ({"device": "gpu"}, "device: Input should be 'auto', 'cpu' or 'cuda'; got 'gpu'."),
        ({"evaluate": {"confidence": 1.5}}, "evaluate.confidence: "),
        ({"evaluate": {"adversarial": {"epsilons": [0]}}}, "evaluate.adversarial.epsilons.0: "),
        ({"evaluate": {"adversarial": {"epsilons": [2, 2]}}}, "2 is listed twice"),
        ({"evaluate": {"adversarial": {"step": 3}}}, "Did you mean 'steps'?"),
        *(
            ({"pretrain": {"model": "x", "methods": ["mmcl"], "loop": loop}}, message)
            for loop, message in (
                ({"precision": "fp16"}, "precision: Input should be 'auto', 'fp32' or 'bf16'; got"),
                ({"chunks": 8}, "unknown key pretrain.loop.chunks. Did you mean 'chunk'?"),
            )
        ),
        ({"baselines": {"curve_epochs": 0}}, "baselines.curve_epochs: "),
        ({"seeds": [10**30]}, "seeds.0: a whole number is at most 1,000,000,000; got 1000"),
        ({"detect": {"settings": {"ubt": {"rate": float("nan")}}}}, "detect.settings.ubt.rate: "),
        ({"detect": {"methods": ["u" * 101]}}, "has more than 100 characters"),
        ({"detect": {"methods": ["a/b"]}}, "'a/b' is not a name such as 'ubt' or 'ubt@random'"),
        ({"detect": {"methods": ["upt"]}}, "Unknown detect method 'upt'. Did you mean 'ubt'?"),
        ({"detect": {"settings": {"upt": {}}}}, "Unknown detect method 'upt'."),
        ({"detect": {"methods": ["ubt@x"]}}, "detect names 'ubt@x', but detect.settings has no"),
        ({"detect": {"settings": {"ubt": {"rat": 1}}}}, "settings.ubt.rat. Did you mean 'rate'"),
        ({"detect": {"settings": {"ubt": {"rate": 3}}}}, "detect.settings.ubt.rate: "),
        ({"download": {"corpora": ["phots"]}}, "Unknown source of corpus 'phots': 'phots'."),
        (
            {"download": {"corpora": ["scenes"], "settings": {"scenes": {"source": "scene"}}}},
            "Did you mean 'scenes'",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(write_params, section, expected) -> None:
    write_params(**section)
    assert expected in refused()


def test_a_section_that_is_missing_is_named() -> None:
    text = Path("params.yaml").read_text().replace("report:", "raport:").replace("gallery", "x")
    assert "report is missing." in refused(text)


def test_text_that_is_not_yaml_or_repeats_a_key_is_refused() -> None:
    assert "key 'seeds' is there twice" in refused("seeds: [0]\nseeds: [1]\n")
    assert "params.yaml is not YAML" in refused("seeds: [0")


def test_a_missing_file_says_where_to_take_one() -> None:
    Path("params.yaml").unlink()
    assert "`clipmend preset default` writes params.yaml" in refused()


def test_a_variant_changes_the_settings_of_its_base(write_params) -> None:
    settings = {"ubt": {"rate": "2e-1", "detector": "ubt"}, "ubt@none": {"detector": None}}
    write_params(unlearn={"methods": ["ubt@none"], "settings": settings})
    resolved = params.load().resolve("unlearn", "ubt@none")
    assert resolved.model_dump() == {"rate": 0.2, "detector": None}


def test_a_corpus_of_another_name_says_its_source(write_params) -> None:
    photos = {"photos": {"source": "pairs", "rate": 0.5}, "photos@less": {"rate": 0.1}}
    write_params(download={"corpora": ["photos@less"], "settings": photos})
    settled = params.load()
    assert settled.source("download", "photos@less") == "pairs"
    assert settled.resolve("download", "photos@less").model_dump() == {"rate": 0.1}


def test_parameters_do_not_change_after_they_were_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        params.load().seeds = (1,)


def test_settings_that_are_all_comments_are_defaults(write_params) -> None:
    write_params(unlearn={"methods": ["ubt"], "settings": {"ubt": None}}, detect={"settings": None})
    assert params.load().resolve("unlearn", "ubt").model_dump() == {"rate": 0.1, "detector": "ubt"}
