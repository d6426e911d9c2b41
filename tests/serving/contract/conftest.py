import pytest
from parsed import Contract

from serving.bundle import Bundle


@pytest.fixture(scope="module")
def contract(bundle: Bundle) -> Contract:
    return Contract(bundle, max_rows=5)
