"""The DAGs as Airflow loads them, with a home of its own; Airflow reads these variables when it is first imported."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_HOME", str(tmp_path_factory.mktemp("airflow")))
        patch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
        patch.setenv("AIRFLOW__CORE__UNIT_TEST_MODE", "True")
        dagbag = importlib.import_module("airflow.dag_processing.dagbag")
        found = dagbag.DagBag(str(ROOT / "dags"))
        assert found.import_errors == {}
        assert sorted(found.dags) == ["livefeed_audit", "livefeed_canary", "livefeed_learn", "livefeed_upkeep"]
        yield found
