"""Files kept between runs, under the digest of what they were made from; written whole or not at all."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from recipe import Recipe


def default_cache() -> Path:
    """The platform's folder for such files (XDG base directory specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attrail" / "zoo"


@dataclass(frozen=True)
class Cache:
    """A folder with one subfolder per model."""

    folder: Path

    def weights(self, recipe: Recipe) -> Path:
        return self.folder / recipe.digest.removeprefix("sha256:")[:24] / "weights.safetensors"

    def evidence(self, recipe: Recipe, key: str) -> Path:
        return self.weights(recipe).with_name(f"{key.removeprefix('sha256:')[:24]}.safetensors")


def write(path: Path, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, str]) -> None:
    """A safetensors file, renamed into place when complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    safetensors.torch.save_file({name: each.contiguous() for name, each in tensors.items()}, part, dict(facts))
    part.replace(path)


def write_json(path: Path, value: Any) -> None:
    """A JSON file, renamed into place when complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(value), encoding="utf-8")
    part.replace(path)


def read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safetensors.safe_open(path, framework="pt") as file:
        tensors: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        return tensors, file.metadata() or {}
