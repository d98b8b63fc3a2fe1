"""The code of a recipe, known without running it: the module that is named, and all that it imports from its folder."""

import ast
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attrail_explainers.digest import digest_of, digest_of_bytes
from attrail_explainers.errors import ConfigError
from attrail_explainers.files.plain_file import read_plain
from attrail_flows.sections import RecipeSection

REMEDY = "correct recipe.train, or set recipe.folder to the folder that holds the file"


@dataclass(frozen=True)
class Recipe:
    """A function that trains a model, and the sha256 of each file of its code by its path below ``folder``."""

    train: str
    folder: Path
    files: Mapping[str, str]

    @property
    def module(self) -> str:
        return self.train.partition(":")[0]

    @property
    def function(self) -> str:
        return self.train.partition(":")[2]

    @property
    def modules(self) -> set[str]:
        """The names that its files are imported by, and the packages around them."""
        names = [path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in self.files]
        return {each for name in names for each in _around(name)}

    @property
    def digest(self) -> str:
        """The digest of the function's name and the code's files, wherever they lie."""
        return digest_of({"train": self.train, "files": self.files})

    def document(self) -> dict[str, Any]:
        """The recipe as JSON values."""
        return {"train": self.train, "digest": self.digest, "files": dict(self.files)}


def read_recipe(section: RecipeSection) -> Recipe:
    """The recipe of a configuration; ConfigError when its module is not in its folder, or a file is no Python."""
    module, folder = section.train.partition(":")[0], section.folder.resolve()
    if file_of(folder, module) is None:
        raise ConfigError(f"recipe.train = {section.train!r}: there is no module {module!r} in {folder}; {REMEDY}")
    code = sorted(_code(folder, module).items())
    files = {path.relative_to(folder).as_posix(): digest_of_bytes(content) for path, content in code}
    return Recipe(section.train, folder, files)


def same_code(recipe: Recipe) -> Recipe:
    """The recipe itself; ConfigError when its code is not the same any more, or not on this machine."""
    here = read_recipe(RecipeSection(train=recipe.train, folder=recipe.folder))
    if here.digest != recipe.digest:
        changed = sorted(path for path, _ in here.files.items() ^ recipe.files.items())
        raise ConfigError(
            f"recipe.train = {recipe.train!r}: {changed[0]} in {recipe.folder} is not what it was when the retrains "
            "were begun: begin again, with the same files on every machine"
        )
    return recipe


def file_of(folder: Path, module: str) -> Path | None:
    """The file of a module below a folder, as an import would find it with the folder on the path; None without one."""
    if "" in module.split("."):
        return None
    place = folder.joinpath(*module.split("."))
    found = (place / "__init__.py", place.with_name(f"{place.name}.py"))
    return next((path for path in found if path.is_file()), None)


def _code(folder: Path, module: str) -> dict[Path, bytes]:
    """What is in the file of a module and in those that it imports from the folder, inside its functions or outside."""
    waiting, seen, found = [module], set[str](), dict[Path, bytes]()
    while waiting:
        name = waiting.pop()
        path = None if name in seen else file_of(folder, name)
        seen.add(name)
        if path is not None:
            found[path] = _content(path)
            waiting += _imported(path, found[path], name)
    return found


def _imported(path: Path, content: bytes, module: str) -> Iterator[str]:
    """Every name that a file may import a module by, and those of the packages around each."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    yield from _around(module)
    for node in ast.walk(_parsed(path, content)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _around(alias.name)
        elif isinstance(node, ast.ImportFrom):
            start = _absolute(node, package, path)
            yield from _around(start)
            yield from (f"{start}.{alias.name}" for alias in node.names)


def _absolute(node: ast.ImportFrom, package: str, path: Path) -> str:
    start = "." * node.level + (node.module or "")
    try:
        return importlib.util.resolve_name(start, package)
    except ImportError as error:
        raise ConfigError(f"recipe: {path}, line {node.lineno}: {start} leads out of its package ({error})") from error


def _around(module: str) -> Iterator[str]:
    parts = module.split(".")
    yield from (".".join(parts[: end + 1]) for end in range(len(parts)))


def _content(path: Path) -> bytes:
    try:
        return read_plain(path)
    except OSError as error:
        raise ConfigError(f"recipe: {path} cannot be read: {error}") from error


def _parsed(path: Path, content: bytes) -> ast.Module:
    try:
        return ast.parse(content, filename=str(path))
    except SyntaxError as error:
        raise ConfigError(f"recipe: {path}, line {error.lineno}, is no Python: {error.msg}") from error
    except ValueError as error:
        raise ConfigError(f"recipe: {path} is no Python: {error}") from error
