"""A recipe's function, called in this process with a seed: the user's own code, which may do anything."""

import contextlib
import importlib
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attrail_explainers.errors import ConfigError, TrainingError
from attrail_explainers.excerpt import excerpt
from attrail_explainers.model.trained_module import begin_random_numbers, trained_module
from attrail_explainers.runtime.torch_threads import one_torch_thread
from attrail_flows.recipe.code import REMEDY, Recipe, file_of

_alone = threading.Lock()  # seeds, and the path that modules are found on, are the process's


@contextlib.contextmanager
def training(recipe: Recipe, seed: int) -> Iterator[Any]:
    """The module that a recipe trains with a seed, in evaluation mode on the CPU, for the time of a block.

    The random numbers of Python, NumPy and torch begin at the seed, and torch computes in one thread: a function that
    draws from nothing else gives the same weights again. What it wrote into its folder is gone after the block. Raises
    ConfigError for a function that is none, or returns no module; TrainingError names what it raised, and the seed.
    """
    with _alone, _importing(recipe), one_torch_thread(), tempfile.TemporaryDirectory(prefix="attrail-") as folder:
        begin_random_numbers(seed)
        function = _function(recipe)  # which may draw as well, or not, where a library is loaded already
        begin_random_numbers(seed)
        try:
            with contextlib.chdir(Path.cwd()):  # back from wherever it goes
                found = function(seed, Path(folder))
        except (Exception, SystemExit) as error:
            raise TrainingError(f"{recipe.train} failed with seed {seed}: {_last_line(error, recipe)}") from error
        _require_known_code(recipe)
        yield trained_module(found, f"recipe.train = {recipe.train!r}")


@contextlib.contextmanager
def _importing(recipe: Recipe) -> Iterator[None]:
    """A block in which the recipe's modules are found first, and none as it was loaded before or is after it."""
    known = {name: sys.modules.pop(name) for name in recipe.modules if name in sys.modules}
    importlib.invalidate_caches()
    before = list(sys.path)
    sys.path.insert(0, str(recipe.folder))
    try:
        yield
    finally:
        sys.path[:] = before
        for name in recipe.modules:
            sys.modules.pop(name, None)
        sys.modules.update(known)


def _function(recipe: Recipe) -> Callable[[int, Path], Any]:
    try:
        module = importlib.import_module(recipe.module)
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"recipe.train = {recipe.train!r}: the module {recipe.module!r} cannot be imported: "
            f"{_last_line(error, recipe)}"
        ) from error
    found = getattr(module, recipe.function, None)
    if not callable(found):
        known = sorted(name for name, each in vars(module).items() if callable(each) and not name.startswith("_"))
        raise ConfigError(
            f"recipe.train = {recipe.train!r}: {recipe.module} has no function {recipe.function!r}, it has "
            f"{', '.join(known) or 'none'}; {REMEDY}"
        )
    return found  # type: ignore[no-any-return]


def _require_known_code(recipe: Recipe) -> None:
    """Raise ConfigError for a file of the folder that was imported by a name only known while the code ran."""
    for name, module in list(sys.modules.items()):
        loaded = Path(getattr(module, "__file__", None) or "")
        if not loaded.is_relative_to(recipe.folder) or loaded != file_of(recipe.folder, name):
            continue
        inside = loaded.relative_to(recipe.folder).as_posix()
        if inside not in recipe.files:
            raise ConfigError(
                f"recipe.train = {recipe.train!r} imports {inside} by a name that is made while it runs, so attrail "
                "cannot tell when that file changes: import it with an import statement"
            )


def _last_line(error: BaseException, recipe: Recipe) -> str:
    """The last line of a traceback, and where in the recipe's own code it was."""
    told = excerpt(" ".join(traceback.format_exception_only(error)[-1].split()))
    frames = traceback.extract_tb(error.__traceback__)
    own = [each for each in frames if Path(each.filename).is_relative_to(recipe.folder)]
    return f"{told} ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else told
