"""A model version as explainers see it: a torch module, how to call it, and the digest of its weights."""

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from attrail_explainers.digest import digest_of_arrays
from attrail_explainers.errors import ConfigError, ExplanationError, UnsupportedModelError

Forward = Callable[[torch.Tensor], torch.Tensor]
BATCH = 32  # images per call, always: see Classifier.call
_LOCKS: weakref.WeakKeyDictionary[torch.nn.Module, threading.RLock] = weakref.WeakKeyDictionary()
_LOCKS_GUARD = threading.Lock()


@dataclass(frozen=True, eq=False)
class Classifier:
    """An image classifier under a name and a version.

    ``module`` maps images (N,C,H,W) to logits (N,classes) and lets hooks fire on its submodules. ``forward`` is a
    faster way to call the same weights where there is one. ``target_layer`` is the submodule whose activations the
    class-activation methods use (None: found by itself). ``batch_size`` is set when the model was exported for one
    batch size only.
    """

    name: str
    version: str
    module: torch.nn.Module
    forward: Forward | None = None
    target_layer: str | None = None
    batch_size: int | None = None

    @property
    def label(self) -> str:
        return f"{self.name}/{self.version}" if self.version else self.name

    def with_target_layer(self, layer: str | None) -> "Classifier":
        """The same classifier with its target layer forced, unless ``layer`` is None."""
        return self if layer is None else replace(self, target_layer=layer)

    @cached_property
    def weights_digest(self) -> str:
        """Digest over the sorted state: name, dtype, shape and bytes of every parameter and buffer."""
        state = self.module.state_dict()
        return digest_of_arrays((name, _plain(state[name])) for name in sorted(state))

    @property
    def device(self) -> torch.device:
        tensor = next(self.module.parameters(), None)
        return torch.device("cpu") if tensor is None else tensor.device

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Evaluation mode and sole use of the module for the time of a block; each submodule's mode is back afterwards.

        Register hooks inside the block only: another thread that explains the same module would run into them.
        """
        with _lock_of(self.module):
            modes = {module: module.training for module in self.module.modules()}
            for module in modes:
                module.training = False
            try:
                yield
            finally:
                for module, training in modes.items():
                    module.training = training

    def call(self, images: torch.Tensor, *, hooked: bool = False) -> torch.Tensor:
        """Logits (N,classes) of one batch; ``hooked`` goes through ``module`` so that hooks fire.

        A short batch is filled up with copies of its first image: kernels choose their order of summation by the
        batch's shape, and an image must get the same bytes alone as among others. The model gets a copy, which it may
        overwrite. Raises UnsupportedModelError when it cannot take the images or its output is not (N,classes).
        """
        forward = self.module if hooked or self.forward is None else self.forward
        count, size = len(images), self.batch_size or BATCH
        filling = images[:1].expand(max(0, size - count), *images.shape[1:])
        images = torch.cat([images, filling])
        try:
            logits = forward(images)
        except (RuntimeError, AssertionError, ValueError, TypeError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise UnsupportedModelError(
                f"model {self.label} cannot take images of shape {tuple(images.shape)}: {reason}; "
                "set [preprocessing] to what the model was logged with"
            ) from error
        if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != len(images):
            got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
            raise UnsupportedModelError(
                f"model {self.label}: expected logits (N,classes) for {len(images)} images, got {got}"
            )
        return logits[:count]

    def require_classes(self, targets: NDArray[np.int64], images: torch.Tensor) -> None:
        """ConfigError names the first target that is no class of the model; ``images`` is one batch to call it with."""
        with self.evaluating(), torch.inference_mode():
            classes = self.call(images).shape[1]
        unknown = (targets < 0) | (targets >= classes)
        if unknown.any():
            target = targets[int(unknown.argmax())]
            raise ConfigError(f"class {target} cannot be explained: model {self.label} has {classes} classes, 0 and up")

    def chunks(self, images: torch.Tensor) -> Iterator[torch.Tensor]:
        """The images in batches that the model can take."""
        size = self.batch_size or BATCH
        yield from (images[start : start + size] for start in range(0, len(images), size))

    def logits(self, images: NDArray[np.float32], sample_ids: tuple[str, ...]) -> NDArray[np.float32]:
        """Logits (N,classes) of any number of images; ExplanationError names the first image without finite ones."""
        tensor = torch.from_numpy(np.ascontiguousarray(images)).to(self.device)
        with self.evaluating(), torch.inference_mode():
            found = torch.cat([self.call(chunk) for chunk in self.chunks(tensor)]).float().cpu().numpy()
        broken = ~np.isfinite(found).all(axis=1)
        if broken.any():
            sample = sample_ids[int(broken.argmax())]
            raise ExplanationError(
                f"model {self.label} returns NaN or infinite outputs for image {sample!r} "
                f"({int(broken.sum())} of {len(broken)} images): check its weights and the preprocessing"
            )
        return np.asarray(found, dtype=np.float32)


def _lock_of(module: torch.nn.Module) -> threading.RLock:
    with _LOCKS_GUARD:
        return _LOCKS.setdefault(module, threading.RLock())


def _plain(tensor: torch.Tensor) -> NDArray[np.generic]:
    """A tensor as an array; dtypes NumPy lacks (bfloat16, float8) as their bytes."""
    tensor = tensor.detach().cpu().contiguous()
    try:
        return np.asarray(tensor.numpy())
    except TypeError:
        return np.asarray(tensor.reshape(tensor.shape or (1,)).view(torch.uint8).numpy())
