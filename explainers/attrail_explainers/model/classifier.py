"""A model version as explainers see it: a torch module, how to call it, and which model it is by digests."""

import threading
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from attrail_explainers.errors import ExplanationError, UnsupportedModelError
from attrail_explainers.model.pixels import Pixels
from attrail_explainers.model.private_copy import arrange, private_copy
from attrail_explainers.model.task import Target, Task, make_task
from attrail_explainers.model.working_copy import WorkingCopy
from attrail_explainers.model_files.state_digest import digest_of_state
from attrail_explainers.slice import PIXELS, Preprocessing


@dataclass(frozen=True, eq=False)
class Classifier:
    """An image classifier under a name and a version.

    ``module`` maps images (N,C,H,W) to logits (N,classes) and lets hooks fire on its submodules; it is copied before it
    is run. ``graph`` is a faster way to call the same weights where there is one: then both came from a file, are this
    classifier's own and are not copied. ``target_layer`` is the submodule whose activations the
    class-activation methods use (None: found by itself). ``batch_size`` is set when the model was exported for one
    batch size only. ``program_digest`` says what is computed with the weights, by the exported program or the model's
    files; None for a module that lives in this process alone, whose code nobody can know for certain. ``task`` is what
    is asked of it, one class of several when None. ``takes`` names the numbers that it takes, such as "float32", where
    its files say so; of one that takes ``uint8`` the ``pixels`` are what its images are turned back into.
    """

    name: str
    version: str
    module: torch.nn.Module
    graph: torch.nn.Module | None = None
    target_layer: str | None = None
    batch_size: int | None = None
    program_digest: str | None = None
    task: Task | None = None
    takes: str | None = None
    pixels: Pixels | None = None
    _copies: dict[tuple[int, ...], WorkingCopy] = field(default_factory=dict, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @property
    def label(self) -> str:
        """Return name and version as messages and records have them, such as "digits/8"."""
        return f"{self.name}/{self.version}" if self.version else self.name

    def with_target_layer(self, layer: str | None) -> "Classifier":
        """A copy of the classifier with its target layer forced, itself if ``layer`` is None."""
        return self if layer is None else replace(self, target_layer=layer)

    @property
    def asked(self) -> Task:
        """What is asked of it."""
        return self.task or make_task()

    def for_task(self, task: Task) -> "Classifier":
        """A copy of the classifier that is asked something else, with working copies of its own."""
        return replace(self, task=task, _copies={}, _lock=threading.RLock())

    def declared(self, kind: str | None) -> "Classifier":
        """The classifier where it was logged for numbers of a ``kind``, such as "uint8"; None: nobody says.

        UnsupportedModelError when its files say that it takes others: the one or the other is a mistake.
        """
        if self.takes is None:
            return replace(self, takes=kind, pixels=Pixels() if kind == PIXELS else None)
        if kind is not None and (kind == PIXELS) != (self.takes == PIXELS):
            raise UnsupportedModelError(
                f"model {self.label} was logged for {kind} images, and its files say that it takes {self.takes}: log "
                "it with an example of the numbers that it takes"
            )
        return self

    def for_images(self, preprocessing: Preprocessing | None) -> "Classifier":
        """The classifier for images that come by a preprocessing; itself where it takes them as they are."""
        found = None if self.pixels is None or preprocessing is None else Pixels.of(preprocessing)
        if found is None or found == self.pixels:
            return self
        return replace(self, pixels=found, _copies={}, _lock=threading.RLock())

    @cached_property
    def weights_digest(self) -> str:
        """Digest over the sorted state: name, dtype, shape and bytes of every parameter and saved buffer.

        A hint alone: other programs may hold the same state. Raises UnsupportedModelError for a state that cannot be
        read.
        """
        return digest_of_state(self.module.state_dict(), self.label)

    @property
    def identity(self) -> tuple[str, str | None]:
        """What says that two models are one: the digests of weights and program."""
        return self.weights_digest, self.program_digest

    def working_copy(self, images: NDArray[np.float32] | torch.Tensor) -> WorkingCopy:
        """What is run on images (N,C,H,W) of this size; made once."""
        size = tuple(images.shape[1:])
        with self._lock:
            if size not in self._copies:
                example = torch.as_tensor(np.array(images[:1]) if isinstance(images, np.ndarray) else images[:1])
                copied, graph = self._arranged
                how = (self.batch_size, self._lock, self.asked)
                self._copies[size] = WorkingCopy(self.label, copied, graph, example, *how, pixels=self.pixels)
            return self._copies[size]

    @cached_property
    def _arranged(self) -> tuple[torch.nn.Module, torch.nn.Module | None]:
        if self.graph is None:
            return private_copy(self.label, self.module), None
        arrange(self.module)
        arrange(self.graph)
        return self.module, self.graph

    def require(self, target: Target, images: NDArray[np.float32] | torch.Tensor) -> None:
        """Raise ConfigError, which names it, for a target that this model cannot be asked; ``images`` have its size.

        Raises ExplanationError for a model that gives no finite number, which decides nothing at all.
        """
        model = self.working_copy(images)
        model.require_numbers()
        target.require(model.classes, self.label)

    def logits(
        self, images: NDArray[np.float32], sample_ids: tuple[str, ...], *, whole: bool = False
    ) -> NDArray[np.float32]:
        """Outputs (N,...), as logits (N,classes), of any number of images; what the task keeps, or ``whole``.

        ExplanationError names the first image without finite ones.
        """
        model = self.working_copy(images)
        kept = (lambda outputs: outputs) if whole else self.asked.kept

        def called() -> torch.Tensor:
            starts = range(0, len(images), model.batch)
            chunks = (torch.from_numpy(np.array(images[start : start + model.batch])) for start in starts)
            return torch.cat([kept(model.call(chunk.to(model.device))) for chunk in chunks])

        with torch.inference_mode():
            logits = model.fitting(called)
        rows = logits.float().cpu().numpy()
        broken = ~np.isfinite(rows).all(axis=tuple(range(1, rows.ndim)))
        if broken.any():
            sample = sample_ids[int(broken.argmax())]
            raise ExplanationError(
                f"model {self.label} returns NaN or infinite outputs for image {sample!r} "
                f"({int(broken.sum())} of {len(broken)} images): check its weights and the preprocessing"
            )
        return np.ascontiguousarray(rows, dtype=np.float32)  # grids come with their channels last in memory
