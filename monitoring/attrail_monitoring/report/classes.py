"""Classes: how far each class moved by itself, side by side for every explainer."""

from collections.abc import Sequence
from dataclasses import dataclass

from attrail_monitoring.report.strip_plot import Axis, Strip, axis_of, strip_of
from attrail_monitoring.verdict.findings import Finding, Verdict

SHOWN = 12  # classes in a picture
LEFT, RIGHT = 66.0, 300.0  # of a drawing 340 wide, between the class's name and its number of images
TOP, LANE, BOTTOM = 22, 18, 8  # of a picture: its first lane, the height of each, what is below the last

ClassFindings = dict[str, list[Finding]]


@dataclass(frozen=True)
class Lane:
    """One class in a picture: its strip at the height ``y``."""

    finding: Finding
    strip: Strip
    y: int


@dataclass(frozen=True)
class ClassPanel:
    """One statistic of one explainer over the shown classes, in a drawing of ``height``."""

    explainer: str
    statistic: str
    axis: Axis
    lanes: tuple[Lane, ...]
    height: int


@dataclass(frozen=True)
class Classes:
    """The classes of one slice: how many were measured, those flagged with their explainers, and pictures of some.

    ``within`` counts classes that every finding found within its limit, ``open`` all others that nothing flagged;
    ``few`` of these have fewer images than the policy needs.
    """

    slice: str
    measured: int
    flagged: tuple[tuple[str, tuple[Finding, ...]], ...]
    within: int
    open: int
    few: int
    panels: tuple[ClassPanel, ...]

    @property
    def shown(self) -> int:
        """How many classes are drawn: the lanes of the fullest panel."""
        return max((len(panel.lanes) for panel in self.panels), default=0)


def classes_of(findings: Sequence[Finding], fewest: int) -> list[Classes]:
    """The classes of each slice that has any; ``fewest`` is the number of images from which a class can be judged."""
    found: dict[str, ClassFindings] = {}
    for finding in findings:
        if finding.measurement.localised:
            stratum = finding.measurement.stratum
            found.setdefault(finding.measurement.slice, {}).setdefault(stratum, []).append(finding)
    return [_classes(name, classes, fewest) for name, classes in found.items()]


def _classes(name: str, classes: ClassFindings, fewest: int) -> Classes:
    flagged = {each: tuple(one for one in found if _flagged(one)) for each, found in classes.items()}
    within = [each for each, found in classes.items() if all(one.verdict is Verdict.PASS for one in found)]
    left = [each for each in classes if not flagged[each] and each not in within]
    return Classes(
        slice=name,
        measured=len(classes),
        flagged=tuple((each, found) for each, found in flagged.items() if found),
        within=len(within),
        open=len(left),
        few=sum(max(one.measurement.n for one in classes[each]) < fewest for each in left),
        panels=_panels({each: classes[each] for each in _furthest(classes)}),
    )


def _furthest(classes: ClassFindings) -> list[str]:
    """The classes to be shown, in the order in which they came: the flagged ones, then those furthest in floors."""

    def moved(name: str) -> tuple[bool, float]:
        found = classes[name]
        return any(map(_flagged, found)), max(one.times_floor or 0.0 for one in found)

    chosen = sorted(classes, key=moved, reverse=True)[:SHOWN]
    return [name for name in classes if name in chosen]


def _panels(classes: ClassFindings) -> tuple[ClassPanel, ...]:
    grouped: dict[tuple[str, str], list[Finding]] = {}
    for found in classes.values():
        for finding in found:
            grouped.setdefault((finding.measurement.explainer, finding.measurement.statistic), []).append(finding)
    return tuple(_panel(*place, found) for place, found in grouped.items())


def _panel(explainer: str, statistic: str, findings: Sequence[Finding]) -> ClassPanel:
    axis = axis_of(findings, LEFT, RIGHT, limits=False)
    lanes = tuple(Lane(each, strip_of(each, axis), TOP + LANE * row) for row, each in enumerate(findings))
    return ClassPanel(explainer, statistic, axis, lanes, TOP + LANE * len(findings) + BOTTOM)


def _flagged(finding: Finding) -> bool:
    return finding.verdict is Verdict.DRIFT
