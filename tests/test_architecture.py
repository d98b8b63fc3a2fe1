"""The stair: explainers <- monitoring <- mlflow_plugin <- flows, and every third-party library in its home."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "attrail_explainers": ROOT / "explainers",
    "attrail_monitoring": ROOT / "monitoring",
    "attrail_mlflow": ROOT / "mlflow_plugin",
    "attrail_flows": ROOT / "flows",
}
ORDER = list(PACKAGES)
HOMES = {
    "torch": {"attrail_explainers"},
    "torchvision": {"attrail_explainers"},
    "timm": {"attrail_explainers"},
    "captum": {"attrail_explainers"},
    "shap": {"attrail_explainers"},
    "lime": {"attrail_explainers"},
    "skimage": {"attrail_explainers"},
    "great_expectations": {"attrail_monitoring"},
    "jinja2": {"attrail_monitoring"},
    "mlflow": {"attrail_mlflow"},
    "prefect": {"attrail_flows"},
    "pydantic": {"attrail_flows"},
    "click": {"attrail_flows"},
    "securesystemslib": {"attrail_mlflow"},
    "cryptography": {"attrail_mlflow"},
    "rfc8785": {"attrail_mlflow"},
}
# Rooms and the files beside them, in walking order: each imports only itself and what stands before it.
ROOMS = {
    "attrail_explainers": """
        lazy errors excerpt digest parameters plugins rank_agreement files runtime confinement slice attributions images
        baselines model_files model conversion tasks subject explainer layers gradients superpixels methods
        explanation difference inspection exhibits assessment checks
    """,
    "attrail_monitoring": """
        formatting slices inference decisions maps statistics floor pictures clusters verdict audit_record comparison
        windows report expectations
    """,
    "attrail_mlflow": """
        quiet signing statements flavour flavours registry log_classifier journal gate gate_server plugin trail runs
        history webhooks
    """,
    "attrail_flows": """
        sections configuration flow_runs recipe inputs engine audit_steps sign_off retrain calibrate audit
        audit_registry promote one_version watch deployment doctor console commands cli
    """,
}
FILES = [(package, path) for package, root in PACKAGES.items() for path in sorted((root / package).rglob("*.py"))]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            yield node.module or ""


@pytest.mark.parametrize(("package", "path"), FILES, ids=lambda value: getattr(value, "name", value))
def test_imports_follow_the_stair_and_stay_in_their_homes(package: str, path: Path) -> None:
    for name in imports(path):
        top = name.partition(".")[0]
        if top in ORDER:
            assert ORDER.index(top) <= ORDER.index(package), f"{path} imports {name}"
        assert package in HOMES.get(top, {package}), f"{path} imports {name}, whose home is {HOMES.get(top)}"


@pytest.mark.parametrize(("package", "path"), FILES, ids=lambda value: getattr(value, "name", value))
def test_imports_follow_the_order_of_rooms(package: str, path: Path) -> None:
    order = ROOMS[package].split()
    room = path.relative_to(PACKAGES[package] / package).with_suffix("").parts[0]
    if room == "__init__":
        return
    assert room in order, f"{path}: give the room {room!r} a place in the order of {package}"
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top == package and rest:
            other = rest.partition(".")[0]
            assert order.index(other) <= order.index(room), f"{path} imports {name}, which comes after {room!r}"


def test_every_package_was_found() -> None:
    assert {package for package, _ in FILES} == set(PACKAGES)


@pytest.mark.parametrize(("package", "path"), FILES, ids=lambda value: getattr(value, "name", value))
def test_no_module_of_flows_is_named_after_a_library_and_flows_have_real_annotations(package: str, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if package == "attrail_flows":
        assert path.stem not in {"shap", "lime", "mlflow", "prefect", "torch", "types", "logging"}
        assert "from __future__ import annotations" not in text


def test_modules_import_each_other_in_no_circle() -> None:
    edges = {}
    for package, path in FILES:
        parts = path.relative_to(PACKAGES[package]).with_suffix("").parts
        edges[".".join(part for part in parts if part != "__init__")] = set(imports(path))
    for start, imported in edges.items():
        seen, waiting = set(), [name for name in imported if name in edges]
        while waiting:
            name = waiting.pop()
            assert name != start, f"{start} imports itself through others"
            if name not in seen:
                seen.add(name)
                waiting += [each for each in edges[name] if each in edges]
