"""The digest of a model's files: any change of name or bytes changes it, nothing else does."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrail_explainers.errors import EvidenceError
from attrail_mlflow.registry.folder_digest import digest_files, digest_folder, digest_of_files

NAMES = st.lists(st.text("abä.-", min_size=1, max_size=4).filter(lambda name: name.strip(".")), min_size=1, max_size=3)
FOLDERS = st.dictionaries(NAMES.map("/".join), st.binary(max_size=20), min_size=1, max_size=4)


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@given(FOLDERS, FOLDERS)
def test_digests_are_equal_just_when_names_and_bytes_are(
    tmp_path_factory: pytest.TempPathFactory, one: dict[str, bytes], other: dict[str, bytes]
) -> None:
    folders = []
    for drawn in (one, other):
        parents = {str(parent) for name in drawn for parent in Path(name).parents}
        files = {name: content for name, content in drawn.items() if name not in parents}
        folders.append((files, digest_folder(write(tmp_path_factory.mktemp("model"), files))))
    assert (folders[0][0] == folders[1][0]) == (folders[0][1] == folders[1][1])


def test_times_modes_and_empty_folders_do_not_count(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", {"MLmodel": b"x", "data/model.pt2": b"y"})
    before = digest_folder(folder)
    os.utime(folder / "MLmodel", (0, 0))
    (folder / "MLmodel").chmod(0o600)
    (folder / "empty").mkdir()
    assert digest_folder(folder) == before == digest_of_files(digest_files(folder))


def test_only_mlflows_own_note_is_left_out(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", {"MLmodel": b"x"})
    before = digest_folder(folder)
    write(folder, {"registered_model_meta": b"model_name: digits"})
    assert digest_folder(folder) == before
    write(folder, {"data/registered_model_meta": b"model_name: digits"})
    assert digest_folder(folder) != before


@pytest.mark.parametrize("target", ["outside.bin", "outside", "nowhere", "MLmodel"])
def test_links_are_refused(tmp_path: Path, target: str) -> None:
    folder = write(tmp_path / "model", {"MLmodel": b"x"})
    write(tmp_path, {"outside.bin": b"secret", "outside/a": b"secret"})
    (folder / "link").symlink_to(folder / target if target == "MLmodel" else tmp_path / target)
    with pytest.raises(EvidenceError, match="no plain file"):
        digest_folder(folder)


def test_a_pipe_is_refused_and_not_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", {"MLmodel": b"x"})
    os.mkfifo(folder / "pipe")
    with pytest.raises(EvidenceError, match="no plain file"):
        digest_folder(folder)


def test_no_model_has_no_digest(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(EvidenceError, match="model"):
            digest_folder(folder)
