"""The table of methods, their papers, and the settings that make edges of the graph of cells."""

import re
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from typing import Any, get_args

import pytest

from clipmend.engine.schema import declaration
from clipmend.methods.papers import PAPERS
from clipmend.methods.settings import Edge
from clipmend.methods.table import METHODS, reference

EVERY = [(stage, name) for stage, methods in METHODS.items() for name in methods]


def edges(annotation: Any, metadata: Any = ()) -> Iterator[Edge]:
    """Yield the edges that an annotation carries, at whatever depth."""
    yield from (marker for marker in metadata if isinstance(marker, Edge))
    for member in get_args(annotation):
        yield from edges(member, getattr(member, "__metadata__", ()))


@pytest.mark.parametrize(("stage", "name"), EVERY)
def test_a_setting_that_names_a_method_of_another_stage_is_an_edge(stage: str, name: str) -> None:
    settings = declaration(*reference(stage, name)).model_fields
    found = {
        setting: {edge.stage for edge in edges(field.annotation, field.metadata)}
        for setting, field in settings.items()
    }
    expected = {"detector": {"detect"}, "start": {"pretrain"}, "triggers": {"poison"}}
    assert found == {setting: expected.get(setting, set()) for setting in settings}


@pytest.mark.parametrize(
    ("stage", "name"), [case for case in EVERY if case[0] not in ("download", "poison")]
)
def test_every_setting_has_a_sentence_in_its_class(stage: str, name: str) -> None:
    module, cls = reference(stage, name)
    classes = getattr(import_module(module), cls).__mro__
    text = "\n".join(parent.__doc__ or "" for parent in classes if parent is not object)
    described = set(re.findall(r"^ {8}(\w+): ", text, flags=re.MULTILINE))
    assert {field.name for field in fields(classes[0])} <= described


def test_the_papers_are_those_that_methods_follow() -> None:
    followed = {key for methods in METHODS.values() for m in methods.values() for key in m.papers}
    assert followed == PAPERS.keys()


def test_a_paper_is_cited_with_a_link_where_it_is_on_arxiv() -> None:
    assert PAPERS["2303.03323"].citation == (
        "Bansal et al., [CleanCLIP: Mitigating Data Poisoning Attacks in Multimodal Contrastive "
        "Learning](https://arxiv.org/abs/2303.03323), ICCV 2023"
    )
    assert PAPERS["liu2008"].citation == "Liu et al., Isolation Forest, ICDM 2008"
