"""What noise shows about a layer: whether, and how, its activations say where the evidence is."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from attrail_explainers.digest import seed_of
from attrail_explainers.model.drawn_anew import draw_anew, own_weights
from attrail_explainers.model.places import Form, Places, otherwise
from attrail_explainers.model.working_copy import Hook, WorkingCopy

DRAWS = 2  # pictures of noise, each looked at once whole and once with each quarter drawn anew
LOCAL = 0.5  # least share of places that a change of their own quarter of the image changes most; by chance 0.25
SAME = 1e-4  # of the largest value: float32 numbers that differ by rounding alone


@dataclass(frozen=True)
class Look:
    """Activations of some layers for ``count`` probes, still in their graph, and the gradients of one logit in them."""

    count: int
    activations: Mapping[str, torch.Tensor]
    gradients: Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Probing:
    """Looks at the layers ``names`` on noise in the range of images; the logit is the first probe's largest."""

    model: WorkingCopy
    noise: torch.Tensor
    target: int
    looks: tuple[Look, ...]

    @classmethod
    def of(cls, model: WorkingCopy, images: torch.Tensor, names: Sequence[str]) -> "Probing":
        """Return what noise in the range of images (N,C,H,W) shows at the layers ``names``."""
        noise = probes(images)
        with torch.no_grad():
            target = int(model.task.rows_of(model.call(noise[:1], filled=False)).argmax())
        return cls(model, noise, target, tuple(_looks(model, noise, target, names)))

    def activations(self, name: str, places: Places) -> torch.Tensor:
        """Activations (5*DRAWS,C,h,w) of a layer, in float32 or more."""
        return _joined([places.grid(look.activations[name][: look.count].detach()) for look in self.looks])

    def gradients(self, name: str, places: Places) -> torch.Tensor:
        """Gradients (5*DRAWS,C,h,w) of the logit in the activations of a layer, in float32 or more."""
        return _joined([places.grid(look.gradients[name][: look.count]) for look in self.looks])

    def flaw(self, name: str, places: Places) -> str | None:
        """Why the activations of a layer do not say where the evidence is, None when they do."""
        activations, gradients = self.activations(name, places), self.gradients(name, places)
        if not (activations.isfinite().all() and gradients.isfinite().all()):
            return "its activations or gradients are not finite"
        if not gradients.any():
            return "no gradient of a logit reaches its places"
        if _is_constant(_maps(activations, gradients)):
            return "its map is the same at every place"
        # Only these can be misread; in a grid of channels each place may well see most of a small image.
        if places.form is not Form.GRID and locality(activations) < LOCAL:
            return "a change of one part of the image does not change it most there"
        return None

    def misses_evidence(self, name: str, readings: Mapping[str, Sequence[Places]]) -> bool:
        """Whether the places of the layer it is made from reach the logit on another way too.

        So it is with the values of an attention, which the keys bypass. ``readings`` are the layers looked at, in the
        order in which they finish.
        """
        look, order = self.looks[0], list(readings)
        for other in reversed(order[: order.index(name)]):
            through = torch.autograd.grad(
                look.activations[name],
                look.activations[other],
                look.gradients[name],
                retain_graph=True,
                allow_unused=True,
            )[0]
            if through is None:
                continue
            passed, whole = (readings[other][0].grid(each) for each in (through, look.gradients[other]))
            if passed.any():
                return not _same(passed, whole, max(SAME, 8 * torch.finfo(passed.dtype).eps))
        return False

    def ignores(self, heads: Sequence[str], name: str, places: Places) -> bool:
        """Whether a layer's map stays when the weights of ``heads`` are drawn anew."""
        if not heads:
            return False
        with redrawn(self.model, heads):
            looks = tuple(_looks(self.model, self.noise, self.target, [name]))
        again = Probing(self.model, self.noise, self.target, looks)
        before, after = (_maps(each.activations(name, places), each.gradients(name, places)) for each in (self, again))
        return _same(before, after)

    def is_linear(self, name: str, places: Places) -> bool:
        """Whether the logits are linear in the layer's mean over places: the gradient is the same wherever taken."""
        gradients = self.gradients(name, places)
        return _same(gradients, gradients[:1, :, :1, :1].expand_as(gradients))


def probes(images: torch.Tensor) -> torch.Tensor:
    """Noise (5*DRAWS,C,H,W) in the range of images (N,C,H,W): whole, then with each quarter of the image drawn anew."""
    generator = torch.Generator().manual_seed(seed_of("probes") % 2**63)
    whole, other = torch.randn(2, DRAWS, *images.shape[1:], generator=generator)
    changed = [torch.where(quarter, other, whole) for quarter in quarters(images.shape[2], images.shape[3])]
    spread = images.std() if images.std() > 0 else 1.0
    return torch.cat([whole, *changed]).to(images) * spread + images.mean()


def quarters(rows: int, columns: int) -> torch.Tensor:
    """The four quarters (4,rows,columns) of a grid; the middle row and column of an odd one belong to none."""
    upper, left = torch.arange(rows) < rows // 2, torch.arange(columns) < columns // 2
    return torch.stack([down[:, None] & right for down in (upper, upper.flip(0)) for right in (left, left.flip(0))])


def locality(activations: torch.Tensor) -> float:
    """Share of places of (5*DRAWS,C,h,w) that a change of their own quarter of the probes changes most."""
    whole, *changed = activations.double().unflatten(0, (5, DRAWS))
    return _share_at_home(torch.stack([(each - whole).abs().mean(dim=(0, 1)) for each in changed]))


def _share_at_home(change: torch.Tensor) -> float:
    """Share of places of a grid whose change (4,h,w) by their own quarter is, for its size, the largest of the four."""
    change = change / change.sum(dim=(1, 2), keepdim=True)
    own = quarters(change.shape[1], change.shape[2]).to(change.device)
    right = change.argmax(dim=0) == own.int().argmax(dim=0)
    return float(right[own.any(dim=0)].double().mean())


def changes(model: WorkingCopy, images: torch.Tensor, layer: str) -> torch.Tensor:
    """How much each quarter of the image, drawn anew, changes each token (4,T) of a layer when it first runs.

    What a number format rounds away is no change.
    """
    parts, runs = [], list[torch.Tensor]()

    def keep(module: torch.nn.Module, arguments: Any, output: torch.Tensor) -> None:
        runs.append(output.clone())  # an in-place activation that follows would write into the output itself

    for chunk in model.chunks(probes(images)):
        with torch.no_grad(), model.hooks({layer: keep}):
            model.call(chunk, hooked=True, filled=False)
        eps = torch.finfo(runs[0].dtype).eps if runs[0].is_floating_point() else 0
        parts.append(runs[0][: len(chunk)].double())
        runs.clear()
    whole, *changed = torch.cat(parts).unflatten(0, (5, DRAWS))
    change = torch.stack([(each - whole).abs().mean(dim=(0, 2)) for each in changed])
    return torch.where(change > 8 * eps * change.max(), change, 0)


def agree(change: torch.Tensor, places: Places, *, still: bool = True) -> bool:
    """Whether tokens that are read as ``places`` change (4,T) with their own quarter, and those beside them with none.

    ``still`` False asks nothing of the tokens beside the places: some models make them from the patches.
    Where every token changes with every quarter attention has mixed them. Then they agree unless the same grid clearly
    lies elsewhere: shifted by one token, the first or last place of every row is in another quarter.
    """
    moved = change > SAME * change.max()
    if moved.all():
        here, *others = (_share_at_home(_grid_of(change, each)) for each in (places, *otherwise(places)))
        return here > max(others, default=0) - 1 / places.columns
    beside, inside = torch.ones(change.shape[1], dtype=torch.bool), _grid_of(moved, places)
    beside[places.span] = False
    own = quarters(places.rows, places.columns).to(moved.device)
    quiet = not still or not bool(moved[:, beside].any())
    return quiet and bool(inside.any(dim=0).all()) and bool(inside[own].all())


def _grid_of(change: torch.Tensor, places: Places) -> torch.Tensor:
    grid: torch.Tensor = change[:, places.span].unflatten(1, (places.rows, places.columns))
    return grid


@contextlib.contextmanager
def redrawn(model: WorkingCopy, layers: Sequence[str]) -> Iterator[None]:
    """Sole use of the copy with the weights of some submodules drawn anew, and then as they were."""
    with model.hooks({}):
        weights = {name: each for layer in layers for name, each in own_weights(model.module, layer).items()}
        kept = {name: weight.data for name, weight in weights.items()}
        handles = draw_anew(model.module, weights, _drawn)
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            for name, weight in weights.items():
                weight.data = kept[name]


def _drawn(name: str, weight: torch.Tensor) -> torch.Tensor:
    """Normal numbers of a weight's spread, the same for every weight of a name and shape."""
    generator = torch.Generator().manual_seed(seed_of("head", name) % 2**63)
    spread = weight.float().std() if weight.numel() > 1 else 1.0
    return (torch.randn(weight.shape, generator=generator).to(weight.device) * spread).to(weight)


def _looks(model: WorkingCopy, noise: torch.Tensor, target: int, names: Sequence[str]) -> Iterator[Look]:
    for chunk in model.chunks(noise):
        kept: dict[str, torch.Tensor] = {}
        with torch.no_grad(), model.hooks({name: _keep(kept, name) for name in names}):
            logits = model.call(chunk, hooked=True, filled=False)
        yield Look(len(chunk), kept, _gradients(model.task.rows_of(logits)[:, target].sum(), kept))


def _gradients(logit: torch.Tensor, kept: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Gradients in the kept outputs; zero where they do not lead to the logit, as when the model cuts the graph."""
    if not logit.requires_grad:
        return {name: torch.zeros_like(output) for name, output in kept.items()}
    gradients = torch.autograd.grad(
        logit, list(kept.values()), retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return dict(zip(kept, gradients, strict=True))


def _keep(kept: dict[str, torch.Tensor], name: str) -> Hook:
    """A hook that keeps a layer's output; the graph begins at the first layers that are looked at."""

    def hook(module: torch.nn.Module, arguments: Any, output: torch.Tensor) -> torch.Tensor:
        torch.set_grad_enabled(True)
        kept[name] = output if output.requires_grad else output.detach().requires_grad_()
        return kept[name].clone()  # what writes into the copy leaves the kept output alone

    return hook


def _maps(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Signed Grad-CAM maps (N,h,w)."""
    return (gradients.mean(dim=(2, 3), keepdim=True) * activations).sum(dim=1)


def _is_constant(maps: torch.Tensor) -> bool:
    return bool((maps - maps[:, :1, :1]).abs().max() <= SAME * maps.abs().max())


def _same(first: torch.Tensor, second: torch.Tensor, tolerance: float = SAME) -> bool:
    return bool((first - second).abs().max() <= tolerance * second.abs().max())


def _joined(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    whole = torch.cat(list(parts))
    return whole.to(torch.promote_types(whole.dtype, torch.float32))
