"""A mapped index stays while somebody searches it, whatever became of its folder."""

import gc
from pathlib import Path

from serving.ann import LISTS, IvfIndex
from serving.delta import Delta
from tests.contracts.test_item_index import CIRCLE, at, inverted


def is_mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text(encoding="utf-8")


def test_the_last_reader_lets_the_mapped_file_go(tmp_path: Path) -> None:
    inverted(CIRCLE).save(tmp_path)
    delta = Delta(IvfIndex.open(tmp_path))
    delta.remove([3])
    held = delta.view
    held.search(at(0), 5)
    del delta
    gc.collect()
    assert is_mapped(tmp_path / LISTS)
    assert held.search(at(0), 1).rows.tolist() == [0]
    del held
    gc.collect()
    assert not is_mapped(tmp_path / LISTS)


def test_an_index_is_searched_on_after_its_folder_is_deleted(tmp_path: Path) -> None:
    for path in inverted(CIRCLE).save(tmp_path):
        assert path.exists()
    index = IvfIndex.open(tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()
    assert index.search(at(0), 1).rows.tolist() == [0]
