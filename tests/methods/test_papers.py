"""The papers as data: those of the methods, and no others."""

from clipmend.methods.papers import PAPERS
from clipmend.methods.table import METHODS


def test_the_papers_are_those_that_methods_follow() -> None:
    followed = {key for methods in METHODS.values() for m in methods.values() for key in m.papers}
    assert followed == PAPERS.keys()


def test_a_paper_is_cited_with_a_link_where_it_is_on_arxiv() -> None:
    assert PAPERS["2303.03323"].citation == (
        "Bansal et al., [CleanCLIP: Mitigating Data Poisoning Attacks in Multimodal Contrastive "
        "Learning](https://arxiv.org/abs/2303.03323), ICCV 2023"
    )
    assert PAPERS["liu2008"].citation == "Liu et al., Isolation Forest, ICDM 2008"
