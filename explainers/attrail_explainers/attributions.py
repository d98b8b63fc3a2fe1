"""Attributions: one explainer's maps for one model on one slice, and their file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import save_file

from attrail_explainers.digest import digest_of, digest_of_arrays
from attrail_explainers.errors import ExplanationError, RecordError

FORMAT = "attrail.attributions/1"
AT_ONCE = 256  # maps looked at together: they may lie in a file that is larger than the memory
OPTIONAL = ("program_digest", "target")
FACTS = ("explainer", "parameters", "sample_ids", "slice_name", "slice_digest", "model", "weights_digest", "undefined")


@dataclass(frozen=True)
class Attributions:
    """Maps of one explainer for one model version on one slice, as the method gives them: signed, never rescaled.

    ``values`` (N,H,W) float32 on the method's own grid (Grad-CAM: the target layer's; superpixel methods: the
    image's). ``targets`` (N,) int64 is the class each map explains. ``parameters`` holds every field of the
    explainer with its seed and target layer. ``undefined`` names the samples that have no map and why: their
    values are NaN, never zeros. ``diagnostics`` holds one number per sample, such as LIME's R2. ``weights_digest`` and
    ``program_digest`` are the classifier's: the model is the same where both are. ``target`` is a digest of what each
    map explains where the class, -1 for none, does not say it all. Raises ExplanationError for lengths
    that disagree, and for a map that is neither finite nor declared undefined::

        maps = explain(model, images, targets, explainer="gradcam")
        maps.values[maps.defined].mean(axis=0)  # (H,W), over the images that have a map
    """

    explainer: str
    parameters: Mapping[str, Any]
    values: NDArray[np.float32]
    targets: NDArray[np.int64]
    sample_ids: tuple[str, ...]
    slice_name: str
    slice_digest: str
    model: str
    weights_digest: str
    undefined: Mapping[str, str] = field(default_factory=dict)
    diagnostics: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    program_digest: str | None = None
    target: str | None = None

    def __post_init__(self) -> None:
        count = len(self.sample_ids)
        if self.values.ndim != 3 or len(self.values) != count or len(self.targets) != count:
            raise ExplanationError(
                f"{self.explainer}: expected values (N,H,W) for {count} samples, got {self.values.shape} "
                f"and {len(self.targets)} targets"
            )
        strange = sorted(set(self.undefined) - set(self.sample_ids))
        if strange:
            raise ExplanationError(f"{self.explainer}: {strange[0]!r} is declared undefined but is no sample")
        for sample, bad in zip(self.sample_ids, ~self.finite, strict=True):
            if bad != (sample in self.undefined):
                raise ExplanationError(
                    f"{self.explainer} on {self.model}: the map of {sample!r} is {'not ' if bad else ''}finite but "
                    f"{'not ' if bad else ''}declared undefined"
                )

    @property
    def defined(self) -> NDArray[np.bool_]:
        """(N,) True where the sample has a map."""
        return np.array([sample not in self.undefined for sample in self.sample_ids], dtype=np.bool_)

    @property
    def finite(self) -> NDArray[np.bool_]:
        """(N,) True where every number of the sample's map is finite."""
        found = np.empty(len(self.values), dtype=np.bool_)
        for start in range(0, len(found), AT_ONCE):
            rows = slice(start, start + AT_ONCE)
            found[rows] = np.isfinite(self.values[rows]).all(axis=(1, 2))
        return found

    @property
    def signed(self) -> bool:
        """Whether any map has a negative value."""
        return bool(np.fmin.reduce(self.values, axis=None, initial=0) < 0)

    @property
    def optional(self) -> dict[str, str]:
        """What is known of some maps only, by its name in their file."""
        return {name: found for name in OPTIONAL if (found := getattr(self, name)) is not None}

    @cached_property
    def comparability(self) -> str:
        """Digest of all that must be equal before two sets of maps may be compared; the model is not part of it."""
        return digest_of(
            {
                "explainer": self.explainer,
                "parameters": dict(self.parameters),
                "slice": self.slice_digest,
                "sample_ids": self.sample_ids,
                "targets": self.targets.tolist(),
                "grid": self.values.shape[1:],
                **({} if self.target is None else {"target": self.target}),
            }
        )

    @cached_property
    def digest(self) -> str:
        """Digest of the maps themselves and of everything that is known about them."""
        diagnostics = [(name, self.diagnostics[name]) for name in sorted(self.diagnostics)]
        return digest_of(
            {
                "values": digest_of_arrays([("values", self.values)]),
                "diagnostics": digest_of_arrays(diagnostics),
                "comparability": self.comparability,
                "slice_name": self.slice_name,
                "model": self.model,
                "weights": self.weights_digest,
                "undefined": dict(self.undefined),
                **self.optional,
            }
        )


def save_attributions(attributions: Attributions, path: Path) -> None:
    """Write maps, and all that is known about them, to one safetensors file at ``path``; its folder is made.

    The tensors are ``values``, ``targets`` and one per diagnostic; the rest is JSON metadata with a digest of it all.
    Raises RecordError when there is no room for it or it cannot be written for another reason::

        save_attributions(maps, Path("maps.safetensors"))
    """
    facts = {name: getattr(attributions, name) for name in FACTS}
    facts |= {"format": FORMAT, "digest": attributions.digest, **attributions.optional}
    tensors: dict[str, NDArray[Any]] = {"values": attributions.values, "targets": attributions.targets}
    tensors |= {f"diagnostics.{name}": array for name, array in attributions.diagnostics.items()}
    plain = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(plain, path, metadata={"attrail": json.dumps(facts, sort_keys=True, default=dict)})
    except (OSError, safetensors.SafetensorError) as error:
        raise RecordError(f"{path} cannot be written: {error}; make room there, or set TMPDIR elsewhere") from error


def load_attributions(path: Path) -> Attributions:
    """Return the maps in a file that ``save_attributions`` wrote, equal to what was written to the last bit.

    Raises RecordError when the file is not one of attributions, or was changed since::

        maps = load_attributions(Path("maps.safetensors"))
    """
    facts, tensors = _read(path)
    if facts.get("format") != FORMAT:
        found = facts.get("format")
        raise RecordError(f"{path}: expected format {FORMAT}, got {found!r}; read it with the attrail that wrote it")
    try:
        attributions = _assembled(facts, tensors)
        intact = attributions.digest == facts["digest"] and set(facts) - set(OPTIONAL) == {*FACTS, "format", "digest"}
    except (KeyError, TypeError, ValueError, ExplanationError) as error:
        raise RecordError(f"{path} was changed after it was written: {error}") from error
    if not intact:
        raise RecordError(f"{path} was changed after it was written: it does not match the digest {facts['digest']}")
    return attributions


def _read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            facts = json.loads((file.metadata() or {})["attrail"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
        raise RecordError(f"{path} is not a file of attributions: {error}") from error
    return facts if isinstance(facts, dict) else {}, tensors


def _assembled(facts: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Attributions:
    prefix = "diagnostics."
    known = {name: facts[name] for name in FACTS} | {"sample_ids": tuple(facts["sample_ids"])}
    return Attributions(
        values=tensors["values"],
        targets=tensors["targets"],
        diagnostics={name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)},
        **known,
        program_digest=facts.get("program_digest"),
        target=facts.get("target"),
    )
