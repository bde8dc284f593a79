"""What is built as permanent is not collected, and the collector runs again afterwards."""

import gc

import pytest

from clipmend.engine.garbage import permanent


def test_the_collector_is_off_while_permanent_objects_are_built_and_on_afterwards() -> None:
    with pytest.raises(KeyError), permanent():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
    gc.unfreeze()
