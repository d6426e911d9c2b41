import ast
import re
from pathlib import Path

from running import ROOT

from features.schema import load_schema


def test_only_configs_features_and_training_know_the_lenders_columns() -> None:
    tables = load_schema().values()
    names = {name for table in tables for name in (table.key, *(column.name for column in table.columns))}
    for path in [ROOT / "service.py", *(ROOT / "serving").rglob("*.py"), *(ROOT / "monitoring").rglob("*.py")]:
        found = names & set(re.findall(r"\w+", path.read_text()))
        assert not found, f"{path} names {found}"


def imports(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}


def test_the_service_assembles_and_never_trains() -> None:
    assert not {name for name in imports(ROOT / "service.py") if name.split(".")[0] in ("training", "pandas", "sklearn", "mlflow")}
    assert len((ROOT / "service.py").read_text().splitlines()) <= 150


def test_nothing_in_the_serving_path_unpickles() -> None:
    for folder in ("configs", "features", "monitoring", "serving"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not imports(path) & {"pickle", "joblib", "cloudpickle", "dill"}, path
