from pathlib import Path

import pytest
from running import call_cli

from training.home_credit.generator import generate

pytestmark = pytest.mark.slow


@pytest.mark.model
def test_the_power_of_drift_is_measured_and_written(tmp_path: Path) -> None:
    generate(tmp_path / "data", 6000, seed=3)
    guide = tmp_path / "guide.md"
    guide.write_text("<!-- drift-power: begin -->\n<!-- drift-power: end -->\n")
    result = call_cli(["drift-power", "--data", str(tmp_path / "data"), "--write", str(guide)])
    assert result.returncode == 0, result.stderr
    lines = guide.read_text().splitlines()[1:-1]
    cells = {line.split(" | ")[0].removeprefix("| "): line.split(" | ")[1:] for line in lines}
    assert cells["none: any of 189 features"][0].startswith("0.")
    assert all(cell.startswith("100% / 100%") for cell in cells["EXT_SOURCE_3 missing for 100% more"])
    assert cells["applicants 2 years younger"][1].startswith("0% / 0%")


def test_too_few_applications_are_an_error(tmp_path: Path) -> None:
    generate(tmp_path, 300, seed=3)
    result = call_cli(["drift-power", "--data", str(tmp_path)])
    assert (result.returncode, "too few to measure the drift" in result.stderr) == (1, True)
