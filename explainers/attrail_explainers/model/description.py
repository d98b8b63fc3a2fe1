"""One question to a model: does it answer, and what is it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.model.classifier import Classifier


@dataclass(frozen=True)
class ModelDescription:
    """What of a model counts for how its work is cut, and for what its results depend on.

    ``activations`` is how many numbers one image makes in it, ``outputs`` what it returns, as ``OutputScale`` says it.
    The digests are the classifier's, ``machine`` is the kind of machine that computes (``machine_of``): bytes that it
    cannot make again are not its own. ``batch_size`` is the only one that it takes, None where it takes any.
    ``output`` is where its outputs stand in what it returns, None for a lone tensor.
    """

    weights_digest: str
    classes: int
    activations: int
    device: str
    dtype: str
    outputs: str = "logits"
    program_digest: str | None = None
    machine: str = ""
    batch_size: int | None = None
    output: str | None = None

    @property
    def identity(self) -> tuple[str, str | None]:
        """What says that two models are one: the digests of weights and program."""
        return self.weights_digest, self.program_digest


def describe(classifier: Classifier, images: NDArray[np.float32], sample_ids: tuple[str, ...]) -> ModelDescription:
    """What a model is on images (N,C,H,W) of this size, once it has answered the first of them.

    ``sample_ids`` are the names of the N images. Raises what ``Classifier.logits`` raises.
    """
    classifier.logits(images[:1], sample_ids[:1])
    copy = classifier.working_copy(images)
    return ModelDescription(
        weights_digest=classifier.weights_digest,
        classes=copy.classes,
        activations=max(1, sum(int(np.prod(each.shape)) for each in copy.activations)),
        device=copy.device.type,
        dtype=str(copy.dtype),
        outputs=str(copy.scale) + (f", in its output {copy.returned.place!r}" if copy.returned.place else ""),
        program_digest=classifier.program_digest,
        machine=copy.machine,
        batch_size=classifier.batch_size,
        output=copy.returned.place or None,
    )
