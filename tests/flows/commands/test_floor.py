"""A floor out of the registry's history: proposed, asked for once, kept, and used as it was chosen."""

import json
import os
import pty
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlparse

import mlflow
import pytest
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT

sys.path.append(str(Path(__file__).parents[2] / "mlflow_plugin" / "history"))
from registry_with_history import History, empty_history

from attrail_explainers.errors import ConfigError
from attrail_flows.configuration import read_config
from attrail_flows.inputs.preflight import preflight_audit
from attrail_mlflow.registry.tags import FLOOR_TAG
from digits import Scans, write_slice

Run = Callable[..., tuple[int, str, str]]
CONFIG = """
[registry]
tracking_uri = "{uri}"
model = "digits"
candidate = "7"
floor = "history"
{registry}
[[slice]]
name = "validation"
source = "slices/validation.csv"

[preprocessing]
size = [8, 8]
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]

[[explainer]]
name = "gradcam"

[policy]
resamples = 100
"""
REFUSED = "nobody chose the earlier versions that are digits/1's floor; see attrail floor --model digits --reference 1"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, scans: Scans) -> Iterator[tuple[History, Path, list[str]]]:
    """Versions 1 to 5 of one recipe, 6 of another learning rate, 7 of the first one again."""
    folder, before = tmp_path_factory.mktemp("history"), mlflow.get_tracking_uri()
    history = empty_history(folder)
    sources = [history.exported(seed, classes=10) for seed in range(5)]
    for each in sources:
        history.registered(each)
    history.registered(history.exported(5, history.run(5, lr=0.1), classes=10))
    history.registered(history.exported(6, classes=10))
    history.client.set_registered_model_alias("digits", "champion", "1")
    write_slice(scans[300:316], folder / "slices")
    mlflow.set_tracking_uri(before)
    return history, folder, sources


@pytest.fixture
def history(trained: tuple[History, Path, list[str]]) -> History:
    """The store, in which nothing was chosen."""
    mlflow.set_tracking_uri(trained[0].registry.tracking_uri)
    trained[0].client.delete_model_version_tag("digits", "1", FLOOR_TAG)
    return trained[0]


@pytest.fixture
def config(history: History, trained: tuple[History, Path, list[str]]) -> Callable[..., Path]:
    """Writes an attrail.toml beside the slice; its path."""

    def written(registry: str = "") -> Path:
        path = trained[1] / "attrail.toml"
        path.write_text(CONFIG.format(uri=history.registry.tracking_uri, registry=registry))
        return path

    return written


@pytest.fixture
def at_terminal(monkeypatch: pytest.MonkeyPatch, attrail: Run) -> Callable[..., tuple[int, str]]:
    """The command at a real pseudo terminal, where somebody types an answer: its status, what the terminal shows."""
    from attrail_flows.cli import main

    def run(answer: str, *arguments: object) -> tuple[int, str]:
        leader, follower = pty.openpty()
        shown: list[bytes] = []

        def show() -> None:
            while piece := os.read(leader, 4096):
                shown.append(piece)
                if b"[y/N]" in piece:
                    os.write(leader, f"{answer}\n".encode())
                if b"\0" in piece:
                    return

        reader = threading.Thread(target=show)
        reader.start()
        with open(follower, "w", closefd=False) as err, open(follower, closefd=False) as typed:
            monkeypatch.setattr("sys.argv", ["attrail", *map(str, arguments)])
            monkeypatch.setattr("sys.stdin", typed)
            monkeypatch.setattr("sys.stderr", err)
            with pytest.raises(SystemExit) as ended:
                main()
            err.write("\0")
        reader.join(timeout=10)
        os.close(leader)
        os.close(follower)
        return int(ended.value.code or 0), b"".join(shown).decode()

    return run


def chosen(history: History) -> list[str] | None:
    text = history.client.get_model_version("digits", "1").tags.get(FLOOR_TAG)
    return [each["version"] for each in json.loads(text)["versions"]] if text else None


def test_every_version_is_listed_with_why_and_nothing_is_chosen_by_that(
    attrail: Run, config: Callable[..., Path], history: History
) -> None:
    status, out, err = attrail("floor", "--config", config())
    assert status == 3, err
    words = " ".join(out.split())
    assert "floor of digits/1, change: retrain" in words
    assert "7 left it is the candidate" in words
    assert "6 left lr is 0.1, digits/1 has 0.01" in words
    assert "2 taken same 2 parameters, other seed (1); same commit" in words
    assert "4 of 6 other versions can be taken, enough: a floor needs 4, and 19 decide better" in words
    assert "nothing was chosen yet" in words
    assert "reading the files of digits/2" in err
    assert chosen(history) is None


def test_what_can_be_taken_is_chosen_and_newer_versions_do_not_slip_in(
    attrail: Run, config: Callable[..., Path], history: History, trained: tuple[History, Path, list[str]]
) -> None:
    status, _, err = attrail("floor", "--config", config(), "--accept", "--by", "ada@lab", "--why", "nightlies")
    assert status == 0, err
    assert "chosen    2, 3, 4, 5 are the floor of digits/1, by ada@lab" in err
    path = config()
    path.write_text(path.read_text().replace('candidate = "7"', ""))
    status, out, _ = attrail("floor", "--config", path)
    assert status == 0
    assert "2, 3, 4, 5 were chosen by ada@lab on " in out
    assert "UTC: nightlies" in out
    assert "not among them, though they could be: 7; --accept chooses anew" in out
    assert out.count("chosen ") >= 4
    _, versions = preflight_audit(read_config(config()))
    assert [each.version for each in versions.floor] == ["2", "3", "4", "5"]


def test_named_versions_are_chosen_with_what_speaks_against_them(
    attrail: Run, config: Callable[..., Path], history: History
) -> None:
    status, _, err = attrail("floor", "--config", config(), "--versions", "2, 3,4,6")
    assert status == 0, err
    assert chosen(history) == ["2", "3", "4", "6"]
    kept = json.loads(history.client.get_model_version("digits", "1").tags[FLOOR_TAG])
    assert kept["versions"][3]["because"] == "chosen although lr is 0.1, digits/1 has 0.01"
    assert kept["left"] == {"5": "not chosen", "7": "it is the candidate"}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--accept", "--versions", "2,3,4,5"), "give one of them"),
        (("--why", "nightlies"), "belong to a choice"),
        (("--versions", "2,3,4"), "a floor needs 4 versions, 3 are there to choose (2, 3, 4)"),
        (("--versions", "2,3,4,4"), "names 4 twice"),
        (("--versions", "2,3,4,99"), "names '99': the versions beside digits/1 are 2, 3, 4, 5, 6, 7"),
        (("--versions", "1,2,3,4"), "names '1': the versions beside"),
        (("--versions", ""), "names ''"),
        (("--accept", "--candidate", "3"), "1 is there to choose (2)"),
        (("--accept", "--model", "letters"), "'letters'"),
        (("--candidate", "champion"), "digits/1 is the candidate and the reference"),
    ],
)
def test_what_is_no_choice_is_refused_and_not_kept(
    attrail: Run, config: Callable[..., Path], history: History, words: tuple[str, ...], why: str
) -> None:
    status, _, err = attrail("floor", "--config", config(), *words)
    assert status == 2
    assert why in err.splitlines()[-1]
    assert chosen(history) is None


def test_a_version_that_is_another_model_is_in_no_floor(
    attrail: Run, config: Callable[..., Path], history: History, trained: tuple[History, Path, list[str]]
) -> None:
    again = history.registered(trained[2][0], history.run(9))
    try:
        status, _, err = attrail("floor", "--config", config(), "--versions", f"2,3,4,5,{again}")
    finally:
        history.client.delete_model_version("digits", again)
    assert status == 2
    assert f"version {again} can be in no floor of digits/1: it has the weights of digits/1" in err


def test_without_a_terminal_nobody_is_asked_and_the_audit_says_what_to_type(
    attrail: Run, config: Callable[..., Path]
) -> None:
    for command in ("audit", "calibrate"):
        status, _, err = attrail(command, "--config", config())
        assert status == 2
        assert REFUSED in err.splitlines()[-1]
        assert "reading the files" not in err


def test_the_terminal_asks_once_and_no_is_an_answer(
    at_terminal: Callable[..., tuple[int, str]], config: Callable[..., Path], history: History
) -> None:
    status, shown = at_terminal("n", "calibrate", "--config", config())
    assert status == 2
    assert "use 2, 3, 4, 5 as the floor of digits/1? [y/N]" in shown
    assert REFUSED in shown
    assert chosen(history) is None


def test_yes_makes_an_audit_with_that_floor_whose_record_says_who_chose_it(
    at_terminal: Callable[..., tuple[int, str]],
    attrail: Run,
    config: Callable[..., Path],
    history: History,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ATTRAIL_ACTOR", "ada@lab")
    result = config().with_name("verdict.json")
    status, shown = at_terminal("y", "audit", "--config", config(), "--json", result)
    assert status == 3, shown
    assert "2, 3, 4, 5 are the floor of digits/1, by ada@lab" in shown
    document = json.loads(result.read_text())
    assert document["calibration"]["source"] == "history"
    assert [each["label"] for each in document["floor"]] == [f"digits/{each}" for each in (2, 3, 4, 5)]
    choice = document["floor_choice"]
    assert (choice["by"], [each["version"] for each in choice["versions"]]) == ("ada@lab", ["2", "3", "4", "5"])
    assert choice["left"]["6"] == "lr is 0.1, digits/1 has 0.01"
    report = Path(document["report_location"]).read_text()
    assert "chosen out of the history by" in report
    assert "Floor, chosen out of the history" in report
    status, shown = at_terminal("y", "audit", "--config", config(), "--candidate", "98")
    assert (status, "'98'" in shown) == (2, True)
    assert "[y/N]" not in shown
    assert "reading the files" not in shown


def test_a_chosen_version_with_other_files_is_refused(
    attrail: Run, config: Callable[..., Path], history: History
) -> None:
    attrail("floor", "--config", config(), "--accept", "--by", "ada@lab")
    three, four = (_model_file(history, number) for number in ("3", "4"))
    kept = three.read_bytes()
    try:
        three.write_bytes(four.read_bytes())
        status, _, err = attrail("audit", "--config", config())
        listed = attrail("floor", "--config", config())
    finally:
        three.write_bytes(kept)
    assert status == 2
    assert "the files of digits/3 are not those that ada@lab chose for the floor of models:/digits/1" in err
    assert listed[0] == 3
    assert "the choice cannot be used: version 3 has other files than when it was chosen" in listed[1]


def test_a_chosen_version_that_is_gone_is_refused(
    attrail: Run, config: Callable[..., Path], history: History, trained: tuple[History, Path, list[str]]
) -> None:
    gone = history.registered(trained[2][4], history.run(8))
    words = ("--versions", f"2,3,4,{gone}", "--candidate", "6")
    assert attrail("floor", "--config", config(), *words)[0] == 0
    history.client.delete_model_version("digits", gone)
    status, _, err = attrail("audit", "--config", config())
    assert status == 2
    assert f"digits/{gone}, chosen for the floor of digits/1, is gone; see attrail floor" in err
    status, out, _ = attrail("floor", "--config", config())
    assert status == 3
    assert f"the choice cannot be used: version {gone} is gone" in out


def test_a_chosen_version_that_is_the_candidate_now_is_left_out_if_enough_remain(
    attrail: Run, config: Callable[..., Path]
) -> None:
    assert attrail("floor", "--config", config(), "--versions", "2,3,4,5,6")[0] == 0
    _, versions = preflight_audit(read_config(config(), candidate="5"))
    assert [each.version for each in versions.floor] == ["2", "3", "4", "6"]
    assert versions.said == (
        "digits/5 was chosen for the floor of digits/1, and is the candidate now: the floor is without it",
    )
    assert attrail("floor", "--config", config(), "--versions", "2,3,4,5")[0] == 0
    with pytest.raises(ConfigError, match="is the candidate and one of the 4 versions chosen"):
        preflight_audit(read_config(config(), candidate="5"))


def test_a_choice_is_for_one_kind_of_change(attrail: Run, config: Callable[..., Path]) -> None:
    assert attrail("floor", "--config", config(), "--accept")[0] == 0
    status, _, err = attrail("audit", "--config", config("change = 'refresh'"))
    assert status == 2
    assert "was chosen for change = 'retrain', registry.change is 'refresh'" in err
    status, out, _ = attrail("floor", "--config", config("change = 'refresh'"))
    assert (status, "it was chosen for change = 'retrain', not 'refresh'" in out) == (3, True)


def test_a_damaged_choice_is_refused_and_may_be_made_anew(
    attrail: Run, config: Callable[..., Path], history: History
) -> None:
    history.client.set_model_version_tag("digits", "1", FLOOR_TAG, "{}")
    for command in ("audit", "floor"):
        status, _, err = attrail(command, "--config", config())
        assert status == 2
        assert "tag attrail.floor of digits/1: the key 'format' is missing; choose anew with attrail floor" in err
    assert attrail("floor", "--config", config(), "--accept")[0] == 0
    assert chosen(history) == ["2", "3", "4", "5"]


def test_a_nightly_audit_of_another_model_is_refused_in_its_row(
    attrail: Run, config: Callable[..., Path], history: History, trained: tuple[History, Path, list[str]]
) -> None:
    for source in trained[2][:2]:
        history.registered(source, name="letters")
    history.client.set_registered_model_alias("letters", "champion", "1")
    status, out, _ = attrail("audit-registry", "--config", config(), "--matching", "name = 'letters'")
    assert status == 2
    assert "ERROR         letters/2 against 1: registry.floor = 'history': nobody chose" in out
    assert "attrail floor --model letters --reference 1" in out
    status, out, _ = attrail("floor", "--config", config(), "--model", "letters", "--reference", "1")
    assert status == 3
    assert "floor of letters/1" in out


def test_a_commit_that_only_one_of_them_knows_is_said(
    attrail: Run, config: Callable[..., Path], history: History
) -> None:
    history.client.delete_tag(history.client.get_model_version("digits", "2").run_id, MLFLOW_GIT_COMMIT)
    _, out, _ = attrail("floor", "--config", config())
    assert "not known: commit of digits/2" in " ".join(out.split())


def _model_file(history: History, version: str) -> Path:
    place = history.client.get_model_version_download_uri("digits", version)
    return Path(urlparse(place).path) / "data" / "model.pt2"
