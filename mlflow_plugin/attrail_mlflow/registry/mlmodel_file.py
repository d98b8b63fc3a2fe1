"""A model's MLmodel file, read as data: MLflow's own reader is for files that are trusted."""

import json
from collections.abc import Callable, Collection, Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from attrail_explainers.errors import RegistryError
from attrail_explainers.excerpt import excerpt
from attrail_mlflow.flavour import Flavour, flavours, named
from attrail_mlflow.flavours.pytorch_pt2 import PyTorchExport
from attrail_mlflow.registry.wrapper import Wrapped, is_wrapper, wrapped

FILE = "MLmodel"
LARGEST = 1024 * 1024  # bytes; MLflow writes some 2,000, most of them the signature
NO_PLAIN_YAML = (  # PyYAML's constructors trust that a value is what its tag says: !!bool x is a KeyError
    *(yaml.YAMLError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError),
)
CHANNELS = (1, 3, 4)  # of images whose channels come last, as Keras and TensorFlow have them
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
LONGEST_NUMBER = 100  # characters; 1:1:1:... takes the square of its length to read
MOST_NODES = 100_000  # with aliases written out
KEYS = {
    *("artifact_path", "auth_policy", "databricks_runtime", "env_vars", "flavors", "is_signature_from_type_hint"),
    *("metadata", "mlflow_version", "model_id", "model_size_bytes", "model_uuid", "prompts", "resources", "run_id"),
    *("saved_input_example_info", "signature", "type_hint_from_example", "utc_time_created"),
}
PYFUNC = "python_function"  # MLflow's view of any flavour's files
PYFUNC_KEYS = frozenset(
    {"code", "config", "data", "env", "loader_module", "pickle_module_name", "python_version", "streamable"}
)
LOG_AGAIN = PyTorchExport.log_again  # where nothing says what the model is of


@dataclass(frozen=True)
class MLmodel:
    """What an MLmodel file says of a model.

    ``flavor`` is its section about it, the ``name`` of one or more files of ``flavours/``; ``data`` is the name of the
    file or folder that holds it, ``extra_files`` the names of files that were logged beside it; ``classes``,
    ``input_shape`` (C,H,W) and ``input_type`` (float32, ...) come from the signature, None where it does not say;
    ``metadata`` is free, but for "attrail", where the flavour's ``facts`` stand that ``log_classifier`` did not write.
    ``describing`` are the names of the small files that these are read from. ``wrapped`` is the model's own file where
    somebody's own code is wrapped around it, which has a signature of its own.
    """

    flavor: str
    data: str
    extra_files: frozenset[str]
    classes: int | None
    input_shape: tuple[int, ...] | None
    input_type: str | None
    metadata: Mapping[str, Any]
    describing: frozenset[str] = frozenset()
    wrapped: str | None = None


def read_mlmodel(folder: Path, what: str, names: Callable[[], Collection[str]]) -> MLmodel:
    """The MLmodel file of a model's folder.

    ``names`` gives those, with slashes, of all of the model's files; it is asked where somebody's own code is around
    them. Raises RegistryError, which names the model as ``what``, when there is none, it is no YAML mapping, is not
    about a model of a flavour that there is, or has a key that lets MLflow run code which came with the model.
    """
    found = _mapping(folder / FILE, what)
    flavors = found.get("flavors")
    if not isinstance(flavors, dict) or not all(isinstance(each, dict) for each in flavors.values()):
        raise RegistryError(f"{what}: its MLmodel file names no flavors; {LOG_AGAIN}")
    if set(flavors) == {PYFUNC} and is_wrapper(flavors[PYFUNC]):
        _require_known(found, KEYS, "the key", what)
        return _looked_through(found, folder, wrapped(names(), what), what)
    flavour = _own(flavors, what)
    keys = {each.name: each.keys for each in flavours()} | {PYFUNC: PYFUNC_KEYS}
    _require_known(found, KEYS, "the key", what)
    _require_known(flavors, keys, "the flavor", what)
    for name, flavor in flavors.items():
        _require_known(flavor, keys[name], f"the key {name}.", what)
        if flavor.get("code") is not None:
            told = f"brings code of its own ({name}.code), which is never run here"
            raise RegistryError(f"{what} {told}; {flavour.log_again}")
    section = flavors[flavour.name]
    data = _data(section, flavour, what)
    _require_own_loader(flavors.get(PYFUNC), flavour, data, what)
    signature = found.get("signature")
    inputs, outputs = (_tensor_shape(signature, side) for side in ("inputs", "outputs"))
    return MLmodel(
        flavor=flavour.name,
        data=data,
        extra_files=frozenset(_extra_files(section, what)),
        classes=_count(outputs, inputs and inputs[1:]),
        input_shape=_image_shape(inputs[1:]) if inputs and len(inputs) == 4 else None,
        input_type=_tensor_type(signature, "inputs"),
        metadata=_metadata(found.get("metadata"), flavour.facts(folder, data, what)),
        describing=frozenset(named(each, data) for each in flavour.describing),
    )


def _looked_through(found: Mapping[Any, Any], folder: Path, inner: Wrapped, what: str) -> MLmodel:
    """What is known of the model inside of a wrapper; the signature is that of the wrapper, and says nothing of it."""
    flavour, above, data = inner.flavour, PurePosixPath(inner.data).parent, PurePosixPath(inner.data).name
    return MLmodel(
        flavor=flavour.name,
        data=inner.data,
        extra_files=frozenset(),
        classes=None,
        input_shape=None,
        input_type=None,
        metadata=_metadata(found.get("metadata"), flavour.facts(folder, inner.data, what)),
        describing=frozenset(str(above / named(each, data)) for each in flavour.describing),
        wrapped=inner.file,
    )


def _count(outputs: tuple[int, ...] | None, image: tuple[int, ...] | None) -> int | None:
    """How many classes outputs (N,classes) or (N,classes,h,w) are about; one stands for two, None where they vary.

    ``image`` is the shape of an image as the model takes it: where channels come last, so do a grid's classes.
    """
    if outputs is None or len(outputs) not in (2, 4):
        return None
    last = image is not None and len(image) == 3 and _image_shape(image) != image
    found = outputs[-1] if last else outputs[1]
    return max(2, found) if found > 0 else None


def _metadata(logged: Any, facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """The logged metadata, with what the model's files say of it where nobody wrote that down."""
    metadata = logged if isinstance(logged, dict) else {}
    own = metadata.get("attrail")
    return metadata | {"attrail": {**facts, **(own if isinstance(own, dict) else {})}} if facts else metadata


def _mapping(path: Path, what: str) -> Mapping[Any, Any]:
    if not path.is_file():
        raise RegistryError(f"{what} has no MLmodel file, so it is no MLflow model; {LOG_AGAIN}")
    if path.stat().st_size > LARGEST:
        raise RegistryError(f"{what}: its MLmodel file has {path.stat().st_size} bytes, more than {LARGEST}")
    try:
        found = _plain_yaml(path.read_bytes())
    except NO_PLAIN_YAML as error:
        raise RegistryError(f"{what}: its MLmodel file is no plain YAML ({excerpt(error)}); {LOG_AGAIN}") from error
    if not isinstance(found, dict):
        raise RegistryError(f"{what}: its MLmodel file holds {type(found).__name__}, expected a mapping; {LOG_AGAIN}")
    return found


def _plain_yaml(text: bytes) -> Any:
    """The document, without Python's objects in it, no key twice and no more nodes than ``MOST_NODES``."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _nodes(node, {}) > MOST_NODES:
            raise ValueError(f"more than {MOST_NODES} values, its aliases written out")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _nodes(node: yaml.Node, known: dict[int, int]) -> int:
    """How many nodes there are with aliases written out; an alias of what it stands in counts as endless."""
    if id(node) not in known:
        known[id(node)] = MOST_NODES + 1
        known[id(node)] = 1 + sum(_nodes(each, known) for each in _below(node))
    return known[id(node)]


def _below(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) < len(keys):
            raise ValueError(f"a key comes twice among {sorted(keys)[:20]}")
        yield from (each for pair in node.value for each in pair)
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif node.tag in NUMBERS and len(node.value) > LONGEST_NUMBER:
        raise ValueError(f"a number of {len(node.value)} characters")


def _require_known(found: Mapping[Any, Any], known: Container[str], kind: str, what: str) -> None:
    for key in found:
        if key not in known:
            shown = f"{kind}{key}" if kind.endswith(".") else f"{kind} {key!r}"
            raise RegistryError(f"{what}: its MLmodel file has {shown}, which attrail does not know; {LOG_AGAIN}")


def _own(flavors: Mapping[str, Any], what: str) -> Flavour:
    """The flavour that the file is about; RegistryError when it is about none that there is, or several."""
    known = {each.name: each for each in flavours()}
    named = [name for name in known if name in flavors]
    if len(named) == 1:
        return known[named[0]]
    titles = " or ".join(dict.fromkeys(each.title for each in known.values()))
    shown = ", ".join(sorted(map(str, flavors))) or "none"
    told = "has several flavours of models" if named else f"was not logged with MLflow's {titles} flavour"
    raise RegistryError(f"{what} {told}, its flavors are {shown}; {LOG_AGAIN}")


def _require_own_loader(pyfunc: Mapping[str, Any] | None, flavour: Flavour, data: str, what: str) -> None:
    """The pyfunc flavor, where there is one, is MLflow's view of the same files and no other program."""
    if pyfunc is None:
        return
    if pyfunc.get("loader_module") != flavour.loader:
        told = f"wants to be loaded by the module {pyfunc.get('loader_module')!r}, expected {flavour.loader}"
        raise RegistryError(f"{what} {told}; {flavour.log_again}")
    config = pyfunc.get("config") or {}
    if not isinstance(config, dict) or set(config) - {"device"}:
        raise RegistryError(f"{what}: python_function.config may hold device alone, it holds {excerpt(repr(config))}")
    if pyfunc.get("data") != (data if flavour.pyfunc_data else None):
        raise RegistryError(f"{what}: its two flavors name different files, {pyfunc.get('data')!r} in python_function")


def _data(section: Mapping[str, Any], flavour: Flavour, what: str) -> str:
    name, key = section.get(flavour.data_key), flavour.data_key
    if not isinstance(name, str) or not name or name.startswith(".") or set(name) & set('/\\:*?"<>|\0%'):
        told = f"{key} must be the name of a file or folder beside MLmodel, got {name!r}"
        raise RegistryError(f"{what}: {told}; {flavour.log_again}")
    return name


def _extra_files(flavor: Mapping[str, Any], what: str) -> Iterator[str]:
    listed = flavor.get("extra_files") or []
    for each in [*listed, *filter(None, [flavor.get("requirements_file")])] if isinstance(listed, list) else [listed]:
        path = each.get("path") if isinstance(each, dict) else None
        if not isinstance(path, str):
            raise RegistryError(f"{what}: extra_files must be a list of paths, got {excerpt(repr(each))}; {LOG_AGAIN}")
        yield path


def _tensor_shape(signature: Any, side: str) -> tuple[int, ...] | None:
    """The shape of the one tensor that a signature has on a side."""
    shape = _tensor_spec(signature, side).get("shape")
    return tuple(shape) if isinstance(shape, list) and all(type(each) is int for each in shape) else None


def _image_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(C,H,W), of models whose channels come last as well."""
    last = shape[2] in CHANNELS and shape[0] not in CHANNELS
    return (shape[2], *shape[:2]) if last else shape


def _tensor_type(signature: Any, side: str) -> str | None:
    """NumPy's name of the numbers in it."""
    found = _tensor_spec(signature, side).get("dtype")
    return found if isinstance(found, str) else None


def _tensor_spec(signature: Any, side: str) -> Mapping[str, Any]:
    """What a signature says of the one tensor on a side, nothing where there are others; it is JSON in YAML."""
    text = signature.get(side) if isinstance(signature, dict) else None
    try:
        (only,) = json.loads(text if isinstance(text, str) else "[]")
        found = only["tensor-spec"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
