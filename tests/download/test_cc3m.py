"""The source ``cc3m``: not built yet, and says so."""

import pytest

from clipmend.errors import DownloadError
from clipmend.methods import create


def test_it_says_that_it_is_not_built_and_what_is() -> None:
    with pytest.raises(DownloadError, match=r"'cc3m' is not built yet; there are: scenes, pairs"):
        create("download", "cc3m", {})
