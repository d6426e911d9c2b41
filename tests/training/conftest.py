from pathlib import Path

import pytest

from configs.settings import Settings
from training.home_credit.generator import generate
from training.prepare import Prepared, prepare


@pytest.fixture
def prepared(tmp_path: Path, settings: Settings) -> Prepared:
    """1,500 generated applications without history."""
    generate(tmp_path, 1500, seed=2, history=False)
    return prepare(tmp_path, settings, lambda _: None)
