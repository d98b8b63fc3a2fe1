"""A file that defines no plug-in is named, whatever kind it should be of."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from attrail_explainers.assessment.check import check_class
from attrail_explainers.errors import AttrailError, UnknownNameError
from attrail_explainers.explainer import explainer_class, explainer_names
from attrail_explainers.inspection.exhibit import EXHIBITS

KINDS = {
    "attrail_explainers.methods": (explainer_class, "METHOD", "explainer"),
    "attrail_explainers.checks": (check_class, "CHECK", "check"),
    "attrail_explainers.exhibits": (EXHIBITS.class_of, "EXHIBIT", "exhibit"),
}


@pytest.mark.parametrize("package", KINDS)
@pytest.mark.parametrize(("content", "found"), [("", "nothing"), ("{0} = 'saliency'\n", "'saliency'")])
def test_a_file_without_its_class_is_named(
    package: str, content: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find: Callable[[str], object]
    find, exported, kind = KINDS[package]
    (tmp_path / "half_done.py").write_text(content.format(exported))
    room = importlib.import_module(package)
    monkeypatch.setattr(room, "__path__", [*room.__path__, str(tmp_path)])
    with pytest.raises(AttrailError) as error:
        find("half_done")
    told = f"is no {kind}: expected its class under the name {exported}, found {found}; end the file with {exported} = "
    assert str(error.value) == f"{tmp_path}/half_done.py {told}the class"
    sys.modules.pop(f"{package}.half_done")


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=", ".join(explainer_names())):
        explainer_class("half_done")
