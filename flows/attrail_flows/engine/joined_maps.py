"""Joining: a slice's maps, put together shard by shard as they arrive, so that no shard is in memory longer."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.attributions import Attributions
from attrail_explainers.errors import IncomparableError
from attrail_explainers.model.task import Target
from attrail_explainers.slice import Slice
from attrail_flows.engine.shards import Shard
from attrail_flows.inputs.large_arrays import large_array


@dataclass
class JoinedMaps:
    """One explainer's maps on one slice, as far as they have arrived. ``made_in`` counts shards by MLflow run."""

    slice: Slice
    made_in: dict[str, int] = field(default_factory=dict)
    _first: Attributions | None = None
    _values: NDArray[np.float32] | None = None
    _undefined: dict[str, str] = field(default_factory=dict)
    _diagnostics: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def add(self, shard: Shard, part: Attributions, run_id: str) -> None:
        """Take a shard's maps; IncomparableError when they were made with other settings than the first."""
        if self._first is None or self._values is None:
            self._first, self._values = part, large_array((len(self.slice), *part.values.shape[1:]))
        first, grid = self._first, self._values.shape[1:]
        if part.parameters != first.parameters or part.values.shape[1:] != grid:
            raise IncomparableError(
                f"{part.explainer} on {self.slice.name!r}: shards of one slice were made with {first.parameters} on a "
                f"grid {grid} and with {part.parameters} on {part.values.shape[1:]}; audit again with --fresh"
            )
        self._values[shard.rows] = part.values
        self._undefined |= part.undefined
        for name, found in part.diagnostics.items():
            if name not in self._diagnostics:
                self._diagnostics[name] = np.full(len(self.slice), np.nan)
            self._diagnostics[name][shard.rows] = found
        self.made_in[run_id] = self.made_in.get(run_id, 0) + 1

    def whole(self, model: str, weights_digest: str, target: Target) -> Attributions:
        """All of it as the maps of a model version; every shard must have been added."""
        if self._first is None or self._values is None:
            raise ValueError("no shard was added")
        order = [sample for sample in self.slice.sample_ids if sample in self._undefined]
        undefined: Mapping[str, str] = {sample: self._undefined[sample] for sample in order}
        return Attributions(
            explainer=self._first.explainer,
            parameters=self._first.parameters,
            values=self._values,
            targets=target.classes,
            sample_ids=self.slice.sample_ids,
            slice_name=self.slice.name,
            slice_digest=self.slice.digest,
            model=model,
            weights_digest=weights_digest,
            undefined=undefined,
            diagnostics=self._diagnostics,
            program_digest=self._first.program_digest,
            target=target.digest,
        )
