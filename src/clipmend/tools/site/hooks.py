"""The hooks of MkDocs: files outside of ``docs/`` that a page links to become part of the site.

Pages link to studies, data and sources by their place in the repository, so that they also work
there. On the site these files lie below ``repository/``, Markdown as pages of their own.
"""

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

OUTSIDE = "repository"
_LINK = re.compile(r"(\]\()(?![a-z][a-z+.-]*:|#|/)([^)\s#]+)(#[^)\s]*)?(\))", re.IGNORECASE)
_FENCE = re.compile(r"^(?:```|~~~).*?^(?:```|~~~)[ \t]*$", re.MULTILINE | re.DOTALL)
_LIST = re.compile(r"(?<=\n)(?P<text>(?![-*|>#]|\d+\.|\s|\n).*\n)(?=(?:- |1\. ))")
_STYLE = """\
.md-grid { max-width: 88rem; }
.md-typeset table:not([class]) td, .md-typeset table:not([class]) th { padding: .4em .7em; }
.filters { display: flex; flex-wrap: wrap; gap: .5rem; margin: .5rem 0; font-size: .7rem; }
.filters select, .filters input { font: inherit; padding: .2rem .4rem; max-width: 14rem;
  color: inherit; background: var(--md-code-bg-color); border: 1px solid currentColor; }
button.sort { all: unset; cursor: pointer; }
button.sort:focus-visible { outline: 2px solid currentColor; }
th[aria-sort=ascending] .sort::after { content: " ▲"; }
th[aria-sort=descending] .sort::after { content: " ▼"; }
"""


def on_files(files: Files, *, config: Any) -> Files:
    """Add each file outside of ``docs/`` that a page links to, and those that these link to."""
    root = Path(config.config_file_path).parent
    waiting = [file.src_uri for file in files if file.is_documentation_page()]
    waiting += [f"{OUTSIDE}/{name}" for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
    while waiting:
        uri = waiting.pop()
        path = _path(root, uri)
        if files.get_file_from_path(uri) is None and path.is_file():
            files.append(File.generated(config, uri, abs_src_path=str(path)))
        if path.suffix == ".md" and path.is_file():
            text = _FENCE.sub("", path.read_text(encoding="utf-8"))
            linked = {_uri(root, path, match[2]) for match in _LINK.finditer(text)}
            waiting += [new for new in linked if files.get_file_from_path(new) is None
                        and _path(root, new).is_file()]  # fmt: skip
    script = (root / "src/clipmend/report/tables.js").read_text(encoding="utf-8")
    files.append(File.generated(config, "assets/tables.js", content=script))
    files.append(File.generated(config, "assets/site.css", content=_STYLE))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:  # noqa: ARG001
    """Return a page with its links as they are on the site."""
    root = Path(config.config_file_path).parent
    own = _path(root, page.file.src_uri)

    def moved(match: re.Match[str]) -> str:
        uri = _uri(root, own, match[2])
        link = os.path.relpath(uri, Path(page.file.src_uri).parent)
        return f"{match[1]}{link}{match[3] or ''}{match[4]}"

    parts, end = [], 0
    for fence in [*_FENCE.finditer(markdown), None]:
        text = markdown[end : fence.start() if fence else len(markdown)]
        # Python-Markdown wants an empty line before a list, GitHub does not.
        parts.append(_LINK.sub(moved, _LIST.sub(r"\g<text>\n", text)))
        parts.append(fence[0] if fence else "")
        end = fence.end() if fence else end
    return "".join(parts)


def _path(root: Path, uri: str) -> Path:
    """Return the file of an address of the site."""
    inside, _, rest = uri.partition("/")
    return root / rest if inside == OUTSIDE else root / "docs" / uri


def _uri(root: Path, page: Path, link: str) -> str:
    """Return the address on the site of a link of a page; a folder is its README.md."""
    target = Path(os.path.normpath(page.parent / link))
    if target.is_dir() and (target / "README.md").is_file():
        target /= "README.md"
    if target.is_relative_to(root / "docs"):
        return target.relative_to(root / "docs").as_posix()
    return f"{OUTSIDE}/{os.path.relpath(target, root)}"
