"""Structure: the layers of a version, and which of them another version has otherwise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.inspection.exhibit import Shown
from attrail_explainers.inspection.graph import GraphLayer, graph_of
from attrail_explainers.inspection.view import View
from attrail_explainers.inspection.weights import WeightChange, change_of, weights_by_layer

FAR = 3.0  # scaled median absolute deviations from the median, from which on a value is an outlier (Leys et al. 2013)
SPREAD = np.log10(1.5)  # least deviation, on the scale of orders of magnitude, that is taken for ordinary
FEWEST = 4  # layers of a kind, below which they are no measure for each other
NAMED = 6  # layers that a sentence names

Facts = dict[str, Any]


@dataclass(frozen=True)
class Structure:
    """Layers by module name, with operators, output shape, parameters and multiply-adds, all for one image.

    Beside another version: which layers were added, removed, changed in shape or operators, or hold other weights, and
    how far these moved: the length of the difference over that of the reference's weights. ``stands_out`` marks layers
    whose weights moved much further than most of their kind (more than three scaled median absolute deviations, in
    orders of magnitude), or that moved where most did not.
    """

    title: ClassVar[str] = "Structure"

    def show(self, view: View) -> Shown:
        tables, reasons = {}, list[str]()
        for role in view.roles:
            tables[role], reason = _table(view, role)
            reasons += [reason] if reason else []
        if not view.pair:
            (role,) = view.roles
            rows = [{"layer": name, **_facts(facts)} for name, facts in tables[role].items()]
            return Shown(_with_roles(rows, role), ("multiply_adds", "parameters"), notes=(*reasons, _totals(tables)))
        return _difference(view, tables, reasons)


def _table(view: View, role: str) -> tuple[dict[str, Facts], str | None]:
    """The layers of a version by the names that both have, in order; and why there is no graph of it, if so."""
    classifier, model, reason = view.by_role[role], view.models[role], None
    weights = weights_by_layer(model.module)
    own = {
        name: sum(each.numel() for each in part.parameters(recurse=False))
        for name, part in model.module.named_modules()
    }
    rows = np.resize(view.rows, model.fixed_batch or 2)
    try:
        graph = graph_of(classifier, model, view.images(rows, role).to(model.dtype))
    except UnsupportedModelError as error:
        graph, reason = {each.layer: GraphLayer([], each.shape) for each in model.activations}, str(error)
    if not graph and not weights:
        raise UnsupportedModelError(
            f"model {model.label} can only be called: its file shows neither layers nor weights to torch"
        )
    names = [*(name for name in own if name not in graph and name in weights), *graph]
    table = {}
    for name in names:
        facts = graph.get(name, GraphLayer())
        table[view.shared_name(role, name)] = {
            "graph": facts,
            "parameters": own.get(name, 0),
            "weights": weights.get(name, {}),
        }
    return table, reason


def _facts(facts: Facts) -> Facts:
    graph: GraphLayer = facts["graph"]
    return {
        "operators": " ".join(graph.operators),
        "output": None if graph.output is None else " x ".join(map(str, graph.output)),
        "parameters": facts["parameters"],
        "multiply_adds": graph.multiply_adds,
    }


def _with_roles(rows: Sequence[Facts], role: str) -> tuple[Facts, ...]:
    numbers = ("parameters", "multiply_adds")
    return tuple({key: {role: each} if key in numbers else each for key, each in row.items()} for row in rows)


def _totals(tables: Mapping[str, Mapping[str, Facts]]) -> str:
    parts = []
    for role, table in tables.items():
        parameters = sum(each["parameters"] for each in table.values())
        multiply_adds = sum(each["graph"].multiply_adds for each in table.values())
        whose = "" if role == "version" else f"{role}: "
        parts.append(f"{whose}{len(table)} layers, {parameters:,} parameters, {multiply_adds:,} multiply-adds an image")
    return "; ".join(parts) + "."


def _difference(view: View, tables: Mapping[str, Mapping[str, Facts]], reasons: Sequence[str]) -> Shown:
    first, second = (tables[role] for role in view.roles)
    rows, changes = [], dict[str, WeightChange]()
    for name in merged(list(first), list(second)):
        pair = [table.get(name) for table in (first, second)]
        change = change_of(pair[0]["weights"], pair[1]["weights"]) if pair[0] and pair[1] else None
        if change is not None and pair[0] and pair[0]["weights"]:
            changes[name] = change
        rows.append(_row(view.roles, name, pair, change))
    kinds = {name: " ".join(f"{own}:{each.ndim}" for own, each in first[name]["weights"].items()) for name in changes}
    out = outstanding({name: each.relative for name, each in changes.items()}, kinds)
    for row in rows:
        row["stands_out"] = row["layer"] in out or row["status"] in {"added", "removed", "other shape"}
    notes = (*reasons, _totals(tables), *_sentences(rows, changes, out))
    arrays = {"relative_change": np.array([each.relative for each in changes.values()])}
    return Shown(tuple(rows), ("relative_change",), arrays, notes=notes)


def merged(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """All names in the first one's order, each that only the second has after its own predecessor there."""
    names = list(first)
    for place, name in enumerate(second):
        if name not in names:
            names.insert(names.index(second[place - 1]) + 1 if place else 0, name)
    return names


def _row(roles: Sequence[str], name: str, pair: Sequence[Facts | None], change: WeightChange | None) -> Facts:
    known = {role: _facts(each) for role, each in zip(roles, pair, strict=True) if each}
    cells: Facts = {"layer": name, "status": _status(pair, change)}
    cells["relative_change"] = change.relative if change and pair[0] and pair[0]["weights"] else None
    cells["change"] = _described(change) if change and change.relative else ""
    for key in ("operators", "output"):
        values = {role: each[key] for role, each in known.items()}
        cells[key] = values if len(set(values.values())) > 1 else next(iter(values.values()))
    return cells | {key: {role: each[key] for role, each in known.items()} for key in ("parameters", "multiply_adds")}


def _status(pair: Sequence[Facts | None], change: WeightChange | None) -> str:
    first, second = pair
    if first is None or second is None:
        return "added" if first is None else "removed"
    if change is None or first["graph"].output != second["graph"].output:
        return "other shape"
    if change.relative:
        return "other weights"
    return "same" if first["graph"].operators == second["graph"].operators else "other operators"


def _described(change: WeightChange) -> str:
    count = len(change.channels)
    which = f"channel {change.channels[0]} alone" if count == 1 else f"{count} channels"
    return "; ".join(each for each in (change.kind, which if count else "") if each)


def outstanding(changes: Mapping[str, float], kinds: Mapping[str, str]) -> set[str]:
    """The layers whose weights moved much further than most of their kind did, or that moved where most did not.

    Convolutions are held against convolutions and norms against norms, a kind of fewer than four against all layers.
    """
    found = set[str]()
    for kind in set(kinds.values()):
        own = {name for name in changes if kinds[name] == kind}
        compared = changes if len(own) < FEWEST else {name: changes[name] for name in own}
        found |= own & _outliers(compared)
    return found


def _outliers(changes: Mapping[str, float]) -> set[str]:
    moved = {name: each for name, each in changes.items() if each > 0}
    if len(moved) <= len(changes) / 2:
        return set(moved)
    logs = {name: float(np.log10(each)) for name, each in moved.items()}
    middle = float(np.median(list(logs.values())))
    spread = 1.4826 * float(np.median([abs(each - middle) for each in logs.values()]))
    return {name for name, each in logs.items() if each > middle + FAR * max(spread, SPREAD)}


def _sentences(rows: Sequence[Facts], changes: Mapping[str, WeightChange], out: set[str]) -> list[str]:
    """What differs, by layer, and what does not."""
    found = []
    for status in ("added", "removed", "other shape", "other operators"):
        names = [row["layer"] for row in rows if row["status"] == status]
        found += [f"{status.capitalize()}: {_listed(names)}."] if names else []
    if not changes:
        return [*found, "No layer with weights has the same name and shapes in both."]
    same = [name for name, each in changes.items() if each.relative == 0]
    if len(same) == len(changes):
        return [*found, f"All {len(same)} layers with weights of the same shape hold exactly the same."]
    moved = sorted((name for name in changes if name not in same), key=lambda name: -changes[name].relative)
    shown = sorted(out, key=lambda name: -changes[name].relative) or moved
    far = [f"{spoken(name)} ({changes[name].relative:.2g})" for name in shown[:NAMED]]
    lead = "furthest beyond the others" if out and len(out) < len(moved) else "furthest"
    found.append(f"Other weights in {len(moved)} of {len(changes)} layers, {lead}: {', '.join(far)}.")
    if same:
        found.append(f"Exactly the same weights in {len(same)}: {_listed(same)}.")
    return found


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(spoken(name) for name in names[:NAMED]) + more


def spoken(layer: str) -> str:
    """A layer's name in a sentence; the model itself, where weights belong to no layer, has none."""
    return layer or "the model itself"


EXHIBIT = Structure
