"""The generated pages of docs/: ``python -m clipmend.tools.site`` writes them.

They are the results pages, a page per method, the reference of commands, exit codes, files and
presets, and parts of README.md. ``--check`` writes nothing, and returns 1 if a page is out of date.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from clipmend.tools.site import cards, readme_parts, reference, results


def pages(root: Path) -> dict[Path, str]:
    """Return the text of every generated page, by its path in the repository."""
    return results.pages(root) | cards.pages(root) | reference.pages() | readme_parts.pages(root)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages, or check them, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m clipmend.tools.site", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if out of date")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository")
    options = parser.parse_args(arguments)
    made = pages(options.root)
    generated = {
        path for folder in (cards.FOLDER,) for path in (options.root / folder).rglob("*.md")
    }
    left_over = generated - {options.root / path for path in made}
    stale = [p for p, text in made.items() if not _has(options.root / p, text)]
    if options.check:
        for path in [*stale, *left_over]:
            sys.stderr.write(f"{path} is out of date; run `make pages`.\n")
        return 1 if stale or left_over else 0
    for path in stale:
        (options.root / path).parent.mkdir(parents=True, exist_ok=True)
        (options.root / path).write_text(made[path], encoding="utf-8")
    for path in left_over:
        path.unlink()
    return 0


def _has(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
