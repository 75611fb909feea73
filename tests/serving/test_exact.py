"""Exact search: its order, and one thread for it in the proxy's process."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from serving.errors import ReleaseRefused
from serving.exact import VECTORS, Exact
from serving.index import best

ONE_THREAD = """
import json
import numpy
from serving.processes import limit_threads
limit_threads()
import faiss
from threadpoolctl import threadpool_info
print(json.dumps([pool["num_threads"] for pool in threadpool_info()]))
"""


def test_equal_scores_come_by_row() -> None:
    same = np.array([[1.0, 0.0], [2.0, 0.0], [1.0, 0.0], [1.0, 0.0]], np.float32)
    assert Exact(same).search(np.array([1.0, 0.0], np.float32), 4).rows.tolist() == [1, 0, 2, 3]


def test_a_row_that_is_out_of_the_question_does_not_come() -> None:
    rows, scores = np.array([4, 5, 6], np.int32), np.array([0.5, -np.inf, 0.7], np.float32)
    assert best(rows, scores, 3).rows.tolist() == [6, 4]


def test_no_rows_find_nothing() -> None:
    assert Exact(np.zeros((0, 4), np.float32)).search(np.ones(4, np.float32), 5).rows.tolist() == []


@pytest.mark.parametrize("body", [b"", b"not an array"])
def test_a_file_that_is_no_matrix_is_refused(body: bytes, tmp_path: Path) -> None:
    (tmp_path / VECTORS).write_bytes(body)
    with pytest.raises(ReleaseRefused, match=VECTORS):
        Exact.open(tmp_path)


def test_the_proxy_pins_every_library_to_one_thread_whenever_it_was_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", ONE_THREAD], capture_output=True, text=True, check=True, env={})
    threads = json.loads(done.stdout)
    assert len(threads) >= 2  # numpy's BLAS, and what faiss brings
    assert set(threads) == {1}
