"""The kept maps and decisions of a member as the library takes them: one model version on one slice."""

from collections.abc import Mapping, Sequence

import numpy as np
from evidence import Evidence, read_evidence
from making import Zoo
from noise import drawn
from numpy.typing import NDArray
from pairs import Pair
from recipe import Member
from slices import IMAGES, base_slice, bases, marked

from attrail_explainers.attributions import Attributions
from attrail_explainers.digest import digest_of
from attrail_explainers.slice import Slice
from attrail_monitoring.decisions.decisions import Decisions
from attrail_monitoring.maps.version_maps import VersionMaps

Rows = NDArray[np.bool_]


def version(zoo: Zoo, member: Member, slice_name: str, images: int) -> VersionMaps:
    """A member's maps and decisions of the first ``images`` of a slice."""
    return mixed(zoo, member, member, slice_name, images)


def mixed(zoo: Zoo, plain: Member, special: Member, slice_name: str, images: int) -> VersionMaps:
    """Maps of ``plain``, but those of ``special`` on the pictures that carry the slice's mark."""
    names = bases(slice_name)
    sources = [base_slice(plain.recipe.dataset, base, zoo.data) for base in names]
    shown = [_evidence(zoo, member, base) for member, base in ((plain, names[0]), (special, names[-1]))]
    label = plain.name if plain == special else f"{plain.name} with {special.name}"
    return _version(shown[0], shown[1], sources, slice_name, images, label)


def noise_versions(zoo: Zoo, pair: Pair) -> tuple[VersionMaps, ...]:
    """The maps of a pair's matched noise, a version for each draw."""
    source = base_slice(pair.champion.recipe.dataset, pair.slice, zoo.data)
    found = enumerate(drawn(zoo, pair))
    return tuple(_version(each, each, [source], pair.slice, IMAGES, f"noise {number}") for number, each in found)


def stand_ins(zoo: Zoo, pair: Pair) -> tuple[VersionMaps, ...]:
    """The maps of a pair's floor of surrogates, of its matched noise where it has none."""
    if not pair.floor:
        return noise_versions(zoo, pair)
    return tuple(version(zoo, each, pair.slice, IMAGES) for each in pair.floor)


def accuracy(maps: VersionMaps) -> float:
    (right,) = maps.right.values()
    return float(right.mean())


def _version(
    unmarked: Evidence, carrying: Evidence, sources: Sequence[Slice], slice_name: str, images: int, label: str
) -> VersionMaps:
    """``unmarked``'s maps, but ``carrying``'s on the pictures that carry the slice's mark."""
    rows = marked(slice_name, sources[0].labels[:images])
    maps = [
        _joined(name, unmarked, carrying, rows, sources, slice_name, label)
        for name in unmarked.maps
        if name in carrying.maps
    ]
    logits = np.where(rows[:, None], carrying.logits[:images], unmarked.logits[:images])
    return VersionMaps(tuple(maps), decisions={slice_name: Decisions.of(logits, sources[0].labels[:images])})


def _evidence(zoo: Zoo, member: Member, base: str) -> Evidence:
    return read_evidence(zoo.path(member, base))


def _joined(
    explainer: str,
    unmarked: Evidence,
    carrying: Evidence,
    rows: Rows,
    sources: Sequence[Slice],
    slice_name: str,
    label: str,
) -> Attributions:
    count, first = len(rows), sources[0]
    values = np.where(rows[:, None, None], carrying.maps[explainer][:count], unmarked.maps[explainer][:count])
    undefined = {first.sample_ids[row]: "no map" for row in np.flatnonzero(~np.isfinite(values).all(axis=(1, 2)))}
    return Attributions(
        explainer=explainer,
        parameters=_same(unmarked.parameters[explainer], carrying.parameters[explainer]),
        values=values,
        targets=first.labels[:count],
        sample_ids=first.sample_ids[:count],
        slice_name=slice_name,
        slice_digest=digest_of({"name": slice_name, "images": count, "of": [each.digest for each in sources]}),
        model=label,
        weights_digest=digest_of({"model": label}),
        undefined=undefined,
    )


def _same(first: Mapping[str, object], second: Mapping[str, object]) -> dict[str, object]:
    if first != second:
        raise ValueError(f"a model was explained in two ways, {dict(first)} and {dict(second)}")
    return dict(first)
