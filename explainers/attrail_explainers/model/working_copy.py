"""The copy of a model that is run: in batches of one shape, on images of one size, its outputs taken for logits."""

import contextlib
import copy
import logging
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch

from attrail_explainers.errors import ExplanationError, UnsupportedModelError
from attrail_explainers.excerpt import excerpt
from attrail_explainers.model.drawn_anew import PARAMETRIZATIONS
from attrail_explainers.model.last_function import End, LastFunction
from attrail_explainers.model.output_scale import OutputScale, noise_like
from attrail_explainers.model.pixels import Pixels
from attrail_explainers.model.places import Places, TargetLayer
from attrail_explainers.model.private_copy import deep_copy
from attrail_explainers.model.repeatability import EVERY, FIRST, TOLERANCE, require_alike, require_repeatable
from attrail_explainers.model.returned import Returned
from attrail_explainers.model.task import Task
from attrail_explainers.runtime.allocator import keep_pages
from attrail_explainers.runtime.machine import machine_of

Result = TypeVar("Result")
Forward = Callable[[torch.Tensor], torch.Tensor]
Hook = Callable[[torch.nn.Module, Any, Any], Any]

# Bytes of the largest activation of one batch: on a CPU larger ones leave the caches and are slower per image.
BUDGET = {"cpu": 40 * 2**20, "cuda": 2**30}
MOST = {"cpu": 32, "cuda": 512}  # images per batch, however small they are

CALL = re.compile(r"@\d+")  # what an unflattened export appends to the names of a submodule's second and later calls

logger = logging.getLogger("attrail.explainers")


@dataclass(frozen=True)
class Activation:
    """What a submodule gave for one image: the shape (T,C), (C,h,w) or (h,w,C) of its output, as the model has it."""

    layer: str
    shape: tuple[int, ...]


class WorkingCopy:
    """A model copy, as ``private_copy.private_copy`` arranges it, that is run on images of one size.

    ``module`` lets hooks fire; plain calls take the faster ``forward`` where there is one. ``activations`` are the
    outputs of all submodules in the order in which they finish, but for those that only pass their input on;
    ``outputs`` is the number of outputs; both are found by one call with ``images`` (N,C,H,W). ``task`` says what is
    asked of the model, ``returned`` which part of what it returns answers that, ``scale`` what these outputs are: it
    makes logits of them, ``classes`` is the number of these. ``batch`` is the number of images in every
    call: as many as keep the largest activation within the byte budget, so that it depends on the architecture and the
    images' size alone. With ``pixels`` the model takes these: whole numbers, or where a gradient is asked for numbers
    between them as well. Raises UnsupportedModelError for a model that does not answer an image the same way each time.
    """

    def __init__(  # noqa: PLR0913 - what a classifier knows
        self,
        label: str,
        module: torch.nn.Module,
        forward: Forward | None,
        images: torch.Tensor,
        fixed_batch: int | None,
        lock: threading.RLock,
        task: Task,
        *,
        pixels: Pixels | None = None,
    ) -> None:
        keep_pages()
        self.task, self.pixels = task, pixels
        self.returned = Returned(label, task)
        self.label, self.module, self.forward = label, module, forward
        self.dtype = _dtype(module)
        self.fixed_batch = fixed_batch
        self.target_layers: dict[str | None, TargetLayer] = {}  # what layers.target_layer found, by what was forced
        self.token_grids: dict[int, list[Places]] = {}  # what layers found of so many tokens
        self._lock = lock
        self._has_levels: bool | None = None  # whether a model of pixels answers what lies between them
        self._layout = torch.channels_last
        self.batch = fixed_batch or 2  # two images tell a batch of windows from a batch of images
        self.scale = OutputScale()
        self.activations, outputs, end = self._probed(images)
        self.outputs, self._finite = task.count(tuple(outputs.shape)), bool(outputs.isfinite().any())
        self._image = images[:1].to(self.device)
        self._require_repeatable(self._image)
        self.scale = self._scale(outputs, end, images)
        self.classes = 2 if self.scale.single else self.outputs

    @property
    def device(self) -> torch.device:
        """Return the device of the weights; the CPU for a model without any."""
        tensor = next(self.module.parameters(), None)
        return torch.device("cpu") if tensor is None else tensor.device

    @property
    def machine(self) -> str:
        """The kind of machine that computes, as ``machine_of`` names it."""
        return machine_of(self.device)

    def call(self, images: torch.Tensor, *, hooked: bool = False, filled: bool = True) -> torch.Tensor:
        """Outputs (N,...), at least float32, of any number of images, as the task has them: logits (N,classes).

        ``hooked`` goes through ``module`` so that hooks fire. Every batch has the same shape: a short one is filled up
        with copies of its first image, because kernels choose their order of summation by the batch's shape and an
        image must get the same bytes alone as among others; ``filled=False`` leaves it short, for looking at the model
        where no byte is kept. The model gets a copy, which it may overwrite. Raises UnsupportedModelError when it
        cannot take the images or returns nothing that the task could be about.
        """
        forward = self.module if hooked or self.forward is None else self.forward
        with self._lock:
            found = [self._logits(forward, chunk, filled) for chunk in images.split(self.batch)]
        return found[0] if len(found) == 1 else torch.cat(found)

    def require_numbers(self) -> None:
        """Raise ExplanationError when no output is finite, neither for the first image nor for noise.

        Then it is the model that is broken, and no layer, class or explainer.
        """
        if not self._finite:
            with torch.inference_mode():
                self._finite = bool(self.call(noise_like(self._image), filled=False).isfinite().any())
        if not self._finite:
            raise ExplanationError(
                f"model {self.label} returns only NaN or infinite outputs: check its weights and the preprocessing"
            )

    def chunks(self, images: torch.Tensor) -> Iterator[torch.Tensor]:
        """The images in batches."""
        yield from images.split(self.batch)

    @contextlib.contextmanager
    def hooks(self, hooks: dict[str, Hook]) -> Iterator[None]:
        """Forward hooks on submodules, and sole use of the copy, for the time of a block."""
        with self._lock:
            handles = []
            try:
                for name, hook in hooks.items():
                    handles.append(self.module.get_submodule(name).register_forward_hook(hook))
                yield
            finally:
                for handle in handles:
                    handle.remove()

    def fitting(self, work: Callable[[], Result]) -> Result:
        """What ``work`` returns; it is done again with half the batch whenever memory runs out."""
        while True:
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or self.batch == 1 or self.fixed_batch is not None:
                    raise
                self.batch //= 2
                logger.warning("out of memory on model %s: going on in batches of %d images", self.label, self.batch)

    def _logits(self, forward: Forward, images: torch.Tensor, filled: bool) -> torch.Tensor:
        count = len(images)
        missing = self.batch - count if filled or self.fixed_batch else 0
        filling = images[:1].detach().expand(missing, *images.shape[1:])
        whole = torch.cat([images, filling]) if len(filling) else images
        values = self._run(forward, self._taken(forward, whole))
        if values.ndim < 2:
            values = values.reshape(len(whole), -1)  # squeezed: one logit each, or a single image's
        return self.scale.logits(
            values[:count] if values.dtype == torch.float64 else values[:count].float(), self.label
        )

    def _taken(self, forward: Forward, images: torch.Tensor) -> torch.Tensor:
        """A copy of images (N,C,H,W) as the model takes them."""
        if self.pixels is None:
            return images.to(self.dtype, memory_format=self._layout, copy=True)
        if not images.requires_grad:
            return self.pixels.whole(images).contiguous(memory_format=self._layout)
        self._require_levels(forward, images.detach())
        return self.pixels.levels(images).contiguous(memory_format=self._layout)

    def _require_levels(self, forward: Forward, images: torch.Tensor) -> None:
        """Raise UnsupportedModelError unless the model answers whole numbers as floats as it does as uint8; once."""
        if self._has_levels is None and self.pixels is not None:
            whole = self.pixels.whole(images)
            with torch.no_grad():
                given = self._run(forward, whole)
                try:
                    found = self._run(forward, whole.float())
                except UnsupportedModelError:
                    found = torch.full_like(given, torch.nan)
            apart, largest = (each.double().abs().max() for each in (given - found, given))
            self._has_levels = bool(apart <= TOLERANCE * largest)
        if not self._has_levels:
            raise UnsupportedModelError(
                f"model {self.label} takes whole numbers (uint8), and answers otherwise or not at all where they are "
                "floating-point ones, so no gradient leads back to the image; use shap, lime or occlusion, which only "
                "call the model"
            )

    def _run(self, forward: Forward, images: torch.Tensor) -> torch.Tensor:
        def answer(images: torch.Tensor) -> torch.Tensor:
            return self.returned.part(forward(images), images)

        try:
            return self.scale.values(answer, images, self.label)
        except (RuntimeError, AssertionError, ValueError, TypeError) as error:
            if out_of_memory(error):
                raise
            if "floating point dtype can require gradients" in str(error):  # a hook's, at a layer of whole numbers
                raise UnsupportedModelError(
                    f"model {self.label} is quantized: its layers give whole numbers, which have no gradients; explain "
                    "the model from before it was quantized, or use shap, lime or occlusion, which only call the model"
                ) from error
            reason = str(error).strip().partition("\n")[0]
            raise UnsupportedModelError(
                f"model {self.label} cannot take images of shape {tuple(images.shape)}: {reason}; "
                "set [preprocessing] to what the model was logged with"
            ) from error

    def _require_repeatable(self, image: torch.Tensor) -> None:
        """Ask in batches of two, of one, and of the size that is used from now on."""
        eps, run = (
            torch.finfo(self.dtype).eps,
            self.forward if isinstance(self.forward, torch.nn.Module) else self.module,
        )
        require_repeatable(self.label, partial(self.call, filled=False), self._exactly, image, eps, run.buffers)
        self.batch = self.fixed_batch or self._affordable(image)
        batches = [(image, FIRST), (image.expand(self.batch, *image.shape[1:]), EVERY)]

        def call(images: torch.Tensor) -> torch.Tensor:
            return self.fitting(lambda: self.call(images, filled=False))

        require_alike(self.label, call, self._exactly, batches, eps)

    def _exactly(self, images: torch.Tensor) -> torch.Tensor:
        """What a copy of the model in double precision answers; UnsupportedModelError where there can be none."""
        double = copy.copy(self)
        try:
            double.module, double.forward, double.dtype = deep_copy(self.module).double(), None, torch.float64
            return double.fitting(lambda: double.call(images, filled=False))
        except (RuntimeError, TypeError, MemoryError) as error:
            raise UnsupportedModelError(
                f"model {self.label} cannot be asked in double precision: {excerpt(error)}"
            ) from error

    def _scale(self, outputs: torch.Tensor, end: End | None, images: torch.Tensor) -> OutputScale:
        def more() -> torch.Tensor:
            with torch.inference_mode():
                return self.call(noise_like(images).to(self.device), filled=False)

        return self.task.scale_of(self.label, outputs, end, more, torch.finfo(self.dtype).eps)

    def _probed(self, images: torch.Tensor) -> tuple[tuple[Activation, ...], torch.Tensor, End | None]:
        """Activations, outputs and their end; the layout falls back to the ordinary one where channels-last fails."""
        some = images[:1].to(self.device)
        try:
            return self._activations(some)
        except UnsupportedModelError:
            self._layout = torch.contiguous_format
            return self._activations(some)

    def _activations(self, images: torch.Tensor) -> tuple[tuple[Activation, ...], torch.Tensor, End | None]:
        activations: list[Activation] = []

        def keep(name: str) -> Hook:
            def hook(module: torch.nn.Module, arguments: Any, output: Any) -> None:
                passed_through = any(output is argument for argument in arguments)  # identities; exports drop them
                of_images = isinstance(output, torch.Tensor) and output.ndim > 1 and len(output) == self.batch
                if of_images and not passed_through:
                    activations.append(Activation(CALL.sub("", name), tuple(output.shape[1:])))

            return hook

        names = [name for name, _ in self.module.named_modules() if name and PARAMETRIZATIONS not in name.split(".")]
        tape = LastFunction(everything=True)
        with torch.inference_mode(), self.hooks({name: keep(name) for name in names}), tape:
            outputs = self.call(images, hooked=True)
        return tuple(activations), outputs, tape.last(outputs, torch.finfo(self.dtype).eps)

    def _affordable(self, images: torch.Tensor) -> int:
        kind = self.device.type if self.device.type in BUDGET else "cpu"
        largest = max((_count(each.shape) for each in self.activations), default=0)
        largest = max(largest, _count(tuple(images.shape[1:]))) * self.dtype.itemsize
        fitting = max(1, BUDGET[kind] // largest)
        return int(min(MOST[kind], 2 ** (fitting.bit_length() - 1)))


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "not enough memory" in str(error)


def _dtype(module: torch.nn.Module) -> torch.dtype:
    """The one floating dtype of all weights; float32 when there are several or none."""
    found = {each.dtype for each in module.parameters() if each.is_floating_point()}
    return found.pop() if len(found) == 1 else torch.float32


def _count(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())
