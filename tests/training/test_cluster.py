import pytest

from configs.errors import UserError
from training.cluster import connected


def test_a_wrong_address_of_a_scheduler_is_named() -> None:
    with (
        pytest.raises(UserError, match=r"^--scheduler is nothing://host:1: .*; expected the address of a Dask scheduler"),
        connected("nothing://host:1"),
    ):
        pass
