"""Files of a git revision, read without touching the work tree."""

import subprocess


def is_revision(name: str) -> bool:
    """Say whether git knows a commit by this name, seen from the current folder."""
    return _git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}") is not None


def read_at(revision: str, path: str) -> bytes | None:
    """Return the bytes that a file below the current folder had, or None where it was not."""
    return _git("show", f"{revision}:./{path}")


def _git(*arguments: str) -> bytes | None:
    try:
        done = subprocess.run(("git", *arguments), capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None
