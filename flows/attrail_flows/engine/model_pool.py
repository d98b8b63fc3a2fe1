"""Models that are loaded in this process: each is used by one thread at a time, and few are kept."""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from attrail_explainers.assessment.weight_randomisation import head_weights, shuffled
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.task import Task
from attrail_explainers.model.weight_noise import WeightNoise, noised
from attrail_explainers.slice import Slice
from attrail_mlflow.registry.registry import RegisteredVersion, Registry

KEPT = 2  # model versions whose idle copies stay in memory


@dataclass(frozen=True)
class ModelKey:
    """A model to be loaded. ``flow`` tells apart the runs of flows: no run is served a model that another one loaded.

    ``allow_pickle`` as in the policy; ``head`` is the seed that its classification layer is shuffled with, if it is,
    ``noise`` what is put on its weights, if anything; ``task`` is what is asked of it, one class of several when None.
    """

    tracking_uri: str
    version: RegisteredVersion
    flow: str
    allow_pickle: bool = False
    head: int | None = None
    noise: WeightNoise | None = None
    task: Task | None = None

    @property
    def label(self) -> str:
        """What this model is, for people."""
        if self.noise is not None:
            return f"{self.version.label} with {self.noise}"
        return self.version.label if self.head is None else f"{self.version.label} with a random head"

    def __hash__(self) -> int:
        return hash((self.tracking_uri, self.version.uri, self.flow))


@dataclass
class ModelPool:
    """Loaded models by key. Two threads that want one model get a copy each: runs of one copy wait for each other."""

    _idle: OrderedDict[ModelKey, list[Classifier]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _loading: threading.Lock = field(default_factory=threading.Lock)  # loading sets things that are the process's

    @contextlib.contextmanager
    def borrowed(self, key: ModelKey, registry: Registry, part: Slice) -> Iterator[Classifier]:
        """A copy of a model for this thread alone, for the time of a block; loaded from ``registry`` if none is idle.

        ``part`` has images that it is asked about. Raises what ``Registry.load`` raises.
        """
        classifier = self._taken(key)
        if classifier is None:
            with self._loading:
                classifier = _loaded(key, registry, part)
        classifier = classifier.for_images(part.preprocessing)
        try:
            yield classifier
        finally:
            self._give_back(key, classifier)

    def forget(self, flow: str) -> None:
        """Let go of what one run of a flow loaded."""
        with self._lock:
            for key in [each for each in self._idle if each.flow == flow]:
                del self._idle[key]

    def _taken(self, key: ModelKey) -> Classifier | None:
        with self._lock:
            idle = self._idle.get(key)
            return idle.pop() if idle else None

    def _give_back(self, key: ModelKey, classifier: Classifier) -> None:
        with self._lock:
            self._idle.setdefault(key, []).append(classifier)
            self._idle.move_to_end(key)
            while len(self._idle) > KEPT:
                self._idle.popitem(last=False)


def _loaded(key: ModelKey, registry: Registry, part: Slice) -> Classifier:
    classifier = registry.load(key.version, allow_pickle=key.allow_pickle).for_images(part.preprocessing)
    if key.task is not None:
        classifier = classifier.for_task(key.task)
    if key.noise is not None:
        return noised(classifier, classifier.working_copy(part.images), key.noise)
    if key.head is not None:
        return shuffled(classifier, classifier.working_copy(part.images), head_weights, key.head)
    return classifier


POOL = ModelPool()
