"""What a pickled module computes, as a digest: its file, and the source of the packages that its classes come from."""

import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from attrail_explainers.digest import digest_of, digest_of_file

VERSIONED = {"builtins", "timm", "torch", "torchvision"}  # their versions count wherever results are kept


def pickle_digest(file: Path, module: torch.nn.Module) -> str:
    """Return a digest of a pickle's file and all Python files of its classes' packages, whose code it does not hold.

    Classes that were pickled by value lie in the file itself. Other packages which these import are not looked at.
    """
    owners = {kind.__module__.partition(".")[0] for part in module.modules() for kind in type(part).__mro__}
    code = {
        package: {name: digest_of_file(path) for name, path in sorted(_files(package))}
        for package in sorted(owners - VERSIONED)
    }
    return digest_of({"format": "attrail.pickle/1", "file": digest_of_file(file), "code": code})


def _files(package: str) -> Iterator[tuple[str, Path]]:
    module = sys.modules.get(package)
    folders = [Path(folder) for folder in getattr(module, "__path__", ())]
    for folder in folders:
        yield from ((str(path.relative_to(folder)), path) for path in folder.rglob("*.py"))
    file = getattr(module, "__file__", None)
    if not folders and file:
        yield Path(file).name, Path(file)
