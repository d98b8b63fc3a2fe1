"""The gated store answers as MLflow's own does, errors included, to whatever the gate does not refuse.

    .venv/bin/python tests/mlflow_plugin/gate_server/test_drop_in.py [OPERATIONS] [SEED]

plays more operations than the suite does. Both stores begin with copies of one registry and are asked the same, wrong
questions as well as right ones. What the gate refuses must be something that MLflow would do: it is tried on MLflow's
own store and taken back.
"""

import contextlib
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

sys.path.append(str(Path(__file__).parents[2] / "gate"))
from gate_client import write_policy

from attrail_mlflow.gate.policy import read_gate_policy
from attrail_mlflow.gate_server.store import GatedStore

Values = tuple[tuple[Any, ...], tuple[Any, ...]]  # right ones, and those that are mostly wrong
NAMES: Values = ("m", "n", "o"), ("absent", "p/q", "a:b", "", " ", "M", None, 5)
VERSIONS: Values = ("1", "2", "3", 1, 2), ("4", "77", "0", "-1", "x", "", " 2 ", "02", 1.5, None)
STAGES: Values = ("Staging", "Archived", "None", "Production"), ("staging", "pRoDuction", "Retired", "", None, 3)
ALIASES: Values = ("blue", "green", "champion"), ("Champion", "latest", "v1", "two words", "", "x" * 300, None, 7)
KEYS: Values = ("team", "attrail.verdict"), ("attrail.statement", "Attrail.Waiver", "a//b", "", "k" * 300, None, 5)
VALUES: Values = ("a", "b", ""), ("v" * 100_001, None, 5)
Operation = tuple[str, tuple[Any, ...]]


class Rehearsal(SqlAlchemyStore):
    """MLflow's store over the same database, which takes back whatever it did."""

    def __init__(self, db_uri: str) -> None:
        super().__init__(db_uri)
        kept = self.ManagedSessionMaker

        @contextlib.contextmanager
        def taken_back(read_only: bool = True) -> Iterator[Any]:
            with kept(read_only=read_only) as session:
                yield session
                session.flush()
                session.rollback()

        self.ManagedSessionMaker = taken_back


def operation(draw: random.Random) -> Operation:
    """One question to a registry, often a wrong one."""

    def one(values: Values) -> Any:
        return draw.choice(values[draw.random() < 0.15])

    name, version, tag = one(NAMES), one(VERSIONS), ModelVersionTag(one(KEYS), one(VALUES))
    choices: list[Operation] = [
        ("create_registered_model", (name,)),
        ("create_model_version", (name, "files", None, [ModelVersionTag("team", one(VALUES))])),
        ("create_model_version", (name, "files")),
        ("update_registered_model", (name, "described")),
        ("update_model_version", (name, version, "described")),
        ("set_registered_model_tag", (name, RegisteredModelTag(one(KEYS), one(VALUES)))),
        ("set_model_version_tag", (name, version, draw.choice((tag, tag, tag, tag, None)))),
        ("delete_model_version_tag", (name, version, one(KEYS))),
        ("set_registered_model_alias", (name, one(ALIASES), version)),
        ("delete_registered_model_alias", (name, one(ALIASES))),
        ("transition_model_version_stage", (name, version, one(STAGES), draw.random() < 0.3)),
        ("get_model_version_by_alias", (name, one(ALIASES))),
        ("get_latest_versions", (name, draw.choice((None, [one(STAGES)])))),
        ("get_model_version", (name, version)),
        ("get_registered_model", (name,)),
    ]
    rare: list[Operation] = [
        ("delete_model_version", (name, version)),
        ("delete_registered_model", (name,)),
        ("rename_registered_model", (name, one(NAMES))),
    ]
    return draw.choice(rare if draw.random() < 0.03 else choices)


def answer(store: Any, asked: Operation) -> tuple[Any, ...]:
    """What a store answers, times left out; an error by its kind, code and words."""
    try:
        found = getattr(store, asked[0])(*asked[1])
    except MlflowException as error:
        return "error", error.error_code, error.message, "attrail" in error.json_kwargs
    except Exception as error:  # noqa: BLE001 - MLflow's own are compared, whatever they are
        return "error", type(error), str(error), False
    return "answer", shown(found)


def shown(found: Any) -> Any:
    if isinstance(found, (list, tuple)):
        return [shown(each) for each in found]
    if isinstance(found, dict):
        return {key: shown(value) for key, value in found.items()}
    if not hasattr(found, "__dict__"):
        return found
    return {key: shown(value) for key, value in vars(found).items() if not key.endswith(("_time", "_timestamp"))}


def stores(folder: Path) -> tuple[SqlAlchemyStore, Rehearsal, GatedStore]:
    """MLflow's store and the gated one, each over a copy of a registry in which roles are held already."""
    first = SqlAlchemyStore(f"sqlite:///{folder / 'plain.db'}")
    for name in ("m", "n"):
        first.create_registered_model(name)
        for _ in range(3):
            first.create_model_version(name, "files")
    first.set_registered_model_alias("m", "champion", 1)
    first.transition_model_version_stage("n", 2, "Production", False)
    first.engine.dispose()
    shutil.copy(folder / "plain.db", folder / "gated.db")
    policy = read_gate_policy(write_policy(folder / "policy")[0])
    uri = first.db_uri
    return first, Rehearsal(uri), GatedStore(uri.replace("plain.db", "gated.db"), None, policy)


def whole(store: SqlAlchemyStore) -> Any:
    """A registry, as far as it can be searched."""
    return [
        shown(store.search_registered_models(max_results=1000)),
        shown(store.search_model_versions(max_results=1000)),
    ]


def play(folder: Path, operations: int, seed: int) -> Counter[str]:
    """Ask both; AssertionError at the first difference. Returns how many answers of each kind there were."""
    plain, rehearsal, gated = stores(folder)
    draw, found = random.Random(seed), Counter[str]()
    for number in range(operations):
        asked = operation(draw)
        theirs = answer(gated, asked)
        refused = theirs[0] == "error" and theirs[3]
        found["refused" if refused else theirs[0]] += 1
        ours = answer(rehearsal if refused else plain, asked)
        assert ours[0] == "answer" if refused else ours == theirs, (number, asked, ours, theirs)
    assert whole(plain) == whole(gated)
    return found


def test_the_gated_store_answers_as_mlflows_own(tmp_path: Path) -> None:
    found = play(tmp_path, 800, seed=1)
    assert min(found[each] for each in ("answer", "error", "refused")) >= 5, found


if __name__ == "__main__":
    many, seed = (int(each) for each in (*sys.argv[1:], "10000", "0")[:2])
    with tempfile.TemporaryDirectory(prefix="attrail-drop-in-") as scratch:
        print(dict(play(Path(scratch), many, seed)))
