"""What an exhibit looks at: one version or two, layer by layer under the same names, on the images of a slice."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attrail_explainers.errors import UnknownNameError, UnsupportedModelError
from attrail_explainers.inspection.names import own_prefixes
from attrail_explainers.layers.target_layer import readings, target_layer
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.places import Places
from attrail_explainers.model.task import Target
from attrail_explainers.model.working_copy import WorkingCopy
from attrail_explainers.slice import Slice
from attrail_explainers.subject import Subject

MOST = 2000  # images that are compared with each other: the memory that takes grows with their square
ALONE, PAIR = ("version",), ("reference", "candidate")


@dataclass(frozen=True)
class Layer:
    """A layer under the name that all versions have it by; ``places`` is None where it gives one number a channel."""

    name: str
    places: Places | None

    def channels(self, output: torch.Tensor) -> torch.Tensor:
        """The layer's output (N,...) as (N,C,places), in float32 or more."""
        grid = output[:, :, None] if self.places is None else self.places.grid(output).flatten(2)
        return grid.to(torch.promote_types(grid.dtype, torch.float32))


@dataclass(frozen=True, eq=False)
class View:
    """One version, or a reference and a candidate, on the images of ``slice_``, each of which is looked at once.

    ``target`` has a row for each row of the slice, ``seed`` is that of all draws.
    """

    classifiers: tuple[Classifier, ...]
    slice_: Slice
    target: Target
    seed: int

    @property
    def roles(self) -> tuple[str, ...]:
        """The versions' roles: "version" alone, or "reference" and "candidate"."""
        return ALONE if len(self.classifiers) == 1 else PAIR

    @property
    def pair(self) -> bool:
        """Whether there are two versions."""
        return len(self.classifiers) > 1

    @cached_property
    def by_role(self) -> dict[str, Classifier]:
        """The versions by their roles."""
        return dict(zip(self.roles, self.classifiers, strict=True))

    @cached_property
    def models(self) -> dict[str, WorkingCopy]:
        """The versions as they are run, by role."""
        return {role: each.working_copy(self.slice_.images) for role, each in self.by_role.items()}

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """The first row of each image: several rows may ask about one."""
        return self.slice_.starts[:-1]

    @cached_property
    def compared(self) -> NDArray[np.int64]:
        """The places among ``rows`` of images that are compared with each other: at most ``MOST``, evenly spread."""
        return np.unique(np.linspace(0, len(self.rows) - 1, min(MOST, len(self.rows))).round().astype(np.int64))

    @cached_property
    def image_names(self) -> tuple[str, ...]:
        """The images' names, in their order."""
        return tuple(self.slice_.pictured[row] for row in self.rows)

    @cached_property
    def prefixes(self) -> dict[str, str]:
        """What a wrapper puts before each version's names of layers: "" where it has none that the other lacks."""
        names = [[name for name, _ in model.module.named_modules() if name] for model in self.models.values()]
        return dict(zip(self.roles, own_prefixes(*names), strict=True))

    def own_name(self, role: str, layer: str) -> str:
        """The name that one version has for a layer."""
        return self.prefixes[role] + layer

    def shared_name(self, role: str, own: str) -> str:
        """The name that both versions have a layer by; "" is the whole model."""
        prefix = self.prefixes[role]
        return "" if f"{own}." == prefix else own.removeprefix(prefix)

    def images(self, rows: Sequence[int] | NDArray[np.int64], role: str) -> torch.Tensor:
        """The images in some rows of the slice, (N,C,H,W), where the version is."""
        chosen = np.stack([self.slice_.images[row] for row in rows]) if len(rows) else self.slice_.images[:0]
        return torch.from_numpy(np.ascontiguousarray(chosen)).to(self.models[role].device)

    def batches(self, role: str, rows: NDArray[np.int64] | None = None) -> Iterator[NDArray[np.int64]]:
        """Rows of the slice, of each image the first when None, as many at once as the version takes."""
        chosen, size = self.rows if rows is None else rows, self.models[role].batch
        for start in range(0, len(chosen), size):
            yield chosen[start : start + size]

    def recorded(
        self, role: str, layers: Sequence[Layer], rows: NDArray[np.int64] | None = None
    ) -> Iterator[dict[str, torch.Tensor]]:
        """What layers give for each batch of ``rows``, by name: (N,C,places)."""
        model, outputs = self.models[role], dict[str, torch.Tensor]()

        def keep(name: str) -> Any:  # a copy: what follows may write into the output itself
            return lambda module, arguments, output: outputs.__setitem__(name, output.clone())

        hooks = {self.own_name(role, each.name): keep(each.name) for each in layers}
        for batch in self.batches(role, rows):
            with torch.inference_mode(), model.hooks(hooks):
                model.call(self.images(batch, role), hooked=True)
            yield {each.name: each.channels(outputs.pop(each.name)[: len(batch)]) for each in layers}

    def subject(self, role: str, rows: NDArray[np.int64]) -> Subject:
        """Rows of the slice as what is explained of a version."""
        ids = tuple(self.slice_.pictured[row] for row in rows)
        return Subject(self.models[role], self.images(rows, role), self.target.rows(rows), ids, self.seed)

    def layers(self, names: Sequence[str] | None = None, most: int = 8) -> list[Layer]:
        """The layers of these ``names``, or ``most`` of them spread from first to last, that all versions have.

        Raises UnknownNameError for a name that there is none of, UnsupportedModelError when there is no layer at all.
        """
        known = self.readable
        if names is None:
            stages = spread(stages_of(list(known)), most)
            return [known[name] for name in stages]
        for name in names:
            if name not in known:
                raise UnknownNameError.of("layer", name, known)
        return [known[name] for name in names]

    @cached_property
    def tables(self) -> dict[str, dict[str, Layer]]:
        """By role the layers that run once in a version and whose output has channels, in order."""
        return {role: self._readable(role) for role in self.roles}

    @cached_property
    def readable(self) -> dict[str, Layer]:
        """The layers of ``tables`` that all versions have in the same shape, in the order of the first one."""
        first, *others = self.tables.values()
        common = {name: each for name, each in first.items() if all(table.get(name) == each for table in others)}
        if not common:
            labels = " and ".join(each.label for each in self.classifiers)
            raise UnsupportedModelError(
                f"{labels}: there is no layer{' of one name and shape in both' if self.pair else ''} whose output has "
                "channels that could be shown"
            )
        return common

    def own_layers(self, role: str, names: Sequence[str] | None = None, most: int = 8) -> list[Layer]:
        """As ``layers``, but where versions have none in common those of one version: for what compares no channels."""
        common = set.intersection(*(set(table) for table in self.tables.values()))
        if names is not None or common or not all(self.tables.values()):
            return self.layers(names, most)
        table = self.tables[role]
        return [table[name] for name in spread(stages_of(list(table)), most)]

    def layer_of_evidence(self, role: str | None = None) -> Layer:
        """The layer through whose places all evidence passes, as Grad-CAM takes it, else the last one with places.

        That of the first version, which all must have; with a ``role`` that version's own.
        """
        known, asked = (self.readable, self.roles[0]) if role is None else (self.tables[role], role)
        classifier = self.by_role[asked]
        try:
            found = target_layer(self.models[asked], self.images(self.rows[:1], asked), classifier.target_layer).name
        except UnsupportedModelError:
            found = ""
        name = self.shared_name(asked, found)
        if name in known:
            return known[name]
        placed = [each for each in known.values() if each.places is not None]
        if not placed:
            raise UnsupportedModelError(f"model {classifier.label} has no layer whose output has places to be shown")
        return placed[-1]

    def _readable(self, role: str) -> dict[str, Layer]:
        model, image, found = self.models[role], self.images(self.rows[:1], role), dict[str, Layer]()
        runs = [each.layer for each in model.activations]
        for activation in model.activations:
            name = self.shared_name(role, activation.layer)
            if runs.count(activation.layer) > 1:
                continue
            if len(activation.shape) == 1:
                found[name] = Layer(name, None)
            elif places := readings(model, activation, image):
                found[name] = Layer(name, places[0])
        return found


def stages_of(names: Sequence[str]) -> list[str]:
    """The blocks of a network among its layers: modules with numbers for names, at the first level with three.

    All layers where there are no such blocks: architectures of the field number their blocks.
    """
    numbered = [name for name in names if name.rpartition(".")[2].isdigit()]
    for depth in sorted({name.count(".") for name in numbered}):
        stages = [name for name in numbered if name.count(".") == depth]
        if len(stages) > 2:
            return stages
    return list(names)


def spread(names: Sequence[str], most: int) -> list[str]:
    """At most so many of the names, evenly spread, the first and the last among them."""
    places = np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(int)
    return [names[place] for place in dict.fromkeys(places.tolist())]


def answered(target: Target, outputs: torch.Tensor) -> list[int]:
    """The rows of a target that outputs (N,...) have an answer to, such as a box that was found again."""
    lacking = target.unanswered(outputs.detach()) if target.task.lacking else {}
    return [row for row in range(len(outputs)) if row not in lacking]
