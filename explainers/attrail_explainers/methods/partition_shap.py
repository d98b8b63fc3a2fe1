"""Partition SHAP: Owen values of superpixels along a tree that joins near and alike ones first."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage

from attrail_explainers.explainer import Maps, Need, Trait
from attrail_explainers.subject import Subject
from attrail_explainers.superpixels.game_method import GameMethod
from attrail_explainers.superpixels.games import (
    Game,
    Rows,
    Strategy,
    play,
    superpixel_diagnostics,
)

SPLITS = 16  # groups split between two looks at the queue: fixed, so that the values do not depend on the machine


@dataclass(frozen=True)
class PartitionShap(GameMethod):
    """Owen values of superpixels (Owen 1977; Lundberg's ``shap.PartitionExplainer``), of the target's log odds.

    A tree of superpixels, joined by Ward's criterion on place and colour, is split from the top: the group whose
    contribution is largest first. ``evaluations`` counts every call for an image; when they are spent, a group that
    is still whole shares its contribution evenly among its superpixels, as shap's does. Each superpixel's value is
    spread over its pixels: a map sums to f(image) - f(baseline), and ``completeness_residual`` is what is missing.
    The queue is our own because shap's breaks ties by NumPy's global random numbers; the values are
    shap's (``tests/explainers/methods/test_partition_shap.py``), and nothing depends on the seed.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.FORWARD})
    traits: ClassVar[frozenset[Trait]] = frozenset()

    def attribute(self, subject: Subject) -> Maps:
        games = self.games(subject)
        found = play(subject, games, [owen_values(tree_of(game), self.evaluations) for game in games])
        values = np.full((len(games), *subject.images.shape[2:]), np.nan, dtype=np.float32)
        undefined, residual = {}, np.full(len(games), np.nan)
        for row, (game, (owen, total)) in enumerate(zip(games, found, strict=True)):
            if game.players < 2:
                undefined[row] = "fewer than two superpixels"
                continue
            values[row] = (owen / np.bincount(game.segments.ravel()))[game.segments]
            residual[row] = values[row].sum(dtype=np.float64) - total
        return Maps(values, undefined, {"completeness_residual": residual, **superpixel_diagnostics(games)})


@dataclass(frozen=True, eq=False)
class Tree:
    """A hierarchy over S players as scipy's ``linkage`` gives it: node S+i joins the two nodes of row i.

    ``members`` (2S-1,S) bool tells the players below each node.
    """

    children: NDArray[np.int64]
    members: Rows

    @classmethod
    def of(cls, joins: NDArray[np.float64], players: int) -> "Tree":
        """Return the tree of ``joins`` (S-1,4) that SciPy gives: two nodes, their distance, their players."""
        children = np.asarray(joins, dtype=np.float64).reshape(-1, 4)[:, :2].astype(np.int64)
        members = np.eye(2 * players - 1, players, dtype=np.bool_)
        for row, (left, right) in enumerate(children):
            members[players + row] = members[left] | members[right]
        return cls(children, members)

    @property
    def players(self) -> int:
        """Return the number of players, which are the leaves."""
        return int(self.members.shape[1])

    @property
    def root(self) -> int:
        """Return the node that holds all players."""
        return len(self.members) - 1


def tree_of(game: Game) -> Tree:
    """Superpixels joined by Ward's criterion on their centres (in shorter sides) and mean colours (of the range)."""
    if game.players < 2:
        return Tree.of(np.empty((0, 4)), game.players)
    image = game.image.double().cpu().numpy()
    height, width = game.segments.shape
    lowest, extent = image.min(), np.ptp(image) or 1.0
    rows, columns = np.mgrid[:height, :width] / min(height, width)
    features = [rows, columns, *((image - lowest) / extent)]
    areas = np.bincount(game.segments.ravel())
    means = [np.bincount(game.segments.ravel(), weights=each.ravel()) / areas for each in features]
    return Tree.of(linkage(np.stack(means, axis=1), method="ward"), game.players)


@dataclass(frozen=True, eq=False)
class Group:
    """A node of the tree that joins a ``context`` (S,) of other players: the game's worth ``before`` and ``after``."""

    node: int
    context: Rows
    before: float
    after: float
    weight: float = 1.0

    @property
    def contribution(self) -> float:
        """Return what the node adds to its context's worth, weighted."""
        return (self.after - self.before) * self.weight

    def halves(self, tree: Tree) -> Rows:
        """The context joined by the left half alone and by the right half alone, (2,S)."""
        return np.asarray(self.context | tree.members[tree.children[self.node - tree.players]])

    def split(self, tree: Tree, left: float, right: float) -> Iterator["Group"]:
        """Each half joining first and joining second; ``left`` and ``right`` are the worth of the ``halves``."""
        with_left, with_right = self.halves(tree)
        one, other = (int(child) for child in tree.children[self.node - tree.players])
        weight = self.weight / 2
        yield Group(one, self.context, self.before, left, weight)
        yield Group(other, self.context, self.before, right, weight)
        yield Group(one, with_right, right, self.after, weight)
        yield Group(other, with_left, left, self.after, weight)


def owen_values(tree: Tree, evaluations: int) -> Strategy[tuple[NDArray[np.float64], float]]:
    """Owen values (S,) from at most so many evaluations, and what they sum to: the worth of all less that of none."""
    ends = yield np.array([[True] * tree.players, [False] * tree.players])
    full, empty = (float(each) for each in ends.log_odds)
    values, turn, left = np.zeros(tree.players), count(), evaluations - 2
    queue: list[tuple[float, int, Group]] = []

    def put(group: Group) -> None:
        if group.node < tree.players:
            values[group.node] += group.contribution
        else:
            heapq.heappush(queue, (-abs(group.contribution), next(turn), group))

    put(Group(tree.root, np.zeros(tree.players, dtype=np.bool_), empty, full))
    while queue and left >= 2:
        groups = [heapq.heappop(queue)[-1] for _ in range(min(SPLITS, left // 2, len(queue)))]
        answers = yield np.concatenate([group.halves(tree) for group in groups])
        left -= 2 * len(groups)
        for group, (one, other) in zip(groups, answers.log_odds.reshape(-1, 2), strict=True):
            for part in group.split(tree, float(one), float(other)):
                put(part)
    for _, _, group in sorted(queue, key=lambda entry: entry[1]):
        members = tree.members[group.node]
        values += members * (group.contribution / members.sum())
    return values, full - empty


METHOD = PartitionShap
