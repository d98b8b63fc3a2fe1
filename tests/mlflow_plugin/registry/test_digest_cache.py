"""Files are hashed again when they changed, however that is hidden, and only then."""

import os
import time
from pathlib import Path

import pytest

from attrail_explainers.errors import EvidenceError
from attrail_mlflow.registry import digest_cache
from attrail_mlflow.registry.digest_cache import FileDigests
from attrail_mlflow.registry.folder_digest import digest_files, digest_folder, digest_of_files, file_digest


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read, in order."""
    found: list[Path] = []

    def counted(path: Path) -> str:
        found.append(path)
        return file_digest(path)

    monkeypatch.setattr(digest_cache, "file_digest", counted)
    return found


def later() -> float:
    """A clock by which every file is old."""
    return time.time() + 60


def test_an_unchanged_file_is_read_once(tmp_path: Path, reads: list[Path]) -> None:
    path, digests = tmp_path / "a", FileDigests(later)
    path.write_bytes(b"one")
    assert digests.digest(path) == digests.digest(path) == file_digest(path)
    assert reads == [path]


def test_a_file_that_changed_just_now_is_read_again(tmp_path: Path, reads: list[Path]) -> None:
    """Its next change could fall into the same tick of the file system's clock."""
    path, digests = tmp_path / "a", FileDigests()
    path.write_bytes(b"one")
    digests.digest(path)
    digests.digest(path)
    assert reads == [path, path]


def rewritten(path: Path) -> None:
    path.write_bytes(b"two")


def rewritten_in_place_with_its_time_put_back(path: Path) -> None:
    before = path.stat()
    time.sleep(0.02)
    with path.open("r+b") as file:
        file.write(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns, path.stat().st_ino) == (
        before.st_size,
        before.st_mtime_ns,
        before.st_ino,
    )


def replaced_by_another_file_with_the_same_time(path: Path) -> None:
    before = path.stat()
    other = path.with_name("other")
    other.write_bytes(b"two")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize(
    "change",
    [rewritten, rewritten_in_place_with_its_time_put_back, replaced_by_another_file_with_the_same_time],
    ids=lambda each: each.__name__,
)
def test_a_changed_file_is_read_again(change, tmp_path: Path) -> None:
    path, digests = tmp_path / "a", FileDigests(later)
    path.write_bytes(b"one")
    before = digests.digest(path)
    change(path)
    assert digests.digest(path) == file_digest(path) != before


def test_a_file_that_changes_while_it_is_read_has_no_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")

    def slow(file: Path) -> str:
        found = file_digest(file)
        rewritten(file.with_suffix(".new"))
        file.with_suffix(".new").replace(file)
        return found

    monkeypatch.setattr(digest_cache, "file_digest", slow)
    with pytest.raises(EvidenceError, match="changed while it was read"):
        FileDigests(later).digest(path)


def test_a_folder_has_the_same_digest_either_way(tmp_path: Path) -> None:
    for name in ("MLmodel", "data/a.bin", "data/b.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(os.urandom(50))
    assert digest_of_files(digest_files(tmp_path, FileDigests(later).digest)) == digest_folder(tmp_path)
