"""The results as the file that the README quotes."""

import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version

import comparisons
import early
import no_floor
import numpy as np
import own_floor
import surrogate_tables
import words
from detectors import BASELINES, NAMES
from judging import Judged
from pairs import FLOOR
from rates import auc, mean_auc, power, rate
from recipe import BLURS, RARITY
from reliance import LEARNED
from results import Results
from spreads import spreads
from sub_population import IMAGES, Found
from tables import number, percent, table

from attrail_monitoring.floor.spreads import MOST

Section = Callable[[Results], str]


def page(results: Results, picture: str) -> str:
    """The whole page; ``picture`` is the file name of the failure curve beside it."""
    sections: tuple[Section, ...] = (
        _head, detectors, benign, harmful, words.section, no_floor.section, own_floor.section, _scatter,
        surrogate_tables.section, early.section, comparisons.section, lambda each: _failures(each, picture),
        _sub_populations, families, notes,
    )  # fmt: skip
    return "\n\n".join(text for section in sections if (text := section(results))) + "\n"


def _head(results: Results) -> str:
    return f"# How often the verdict is right\n\n{made_by('make zoo', results)}"


def made_by(command: str, results: Results) -> str:
    """What was run, with which libraries, on how much, and how to take it."""
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "timm", "numpy", "scikit-learn", "scikit-image")
    )
    first, sizes = results.sizes[0], " and with ".join(map(str, results.sizes))
    return (
        f"Written by `{command}`; do not edit. Python "
        f"{platform.python_version()}, {packages}; {results.seconds:,.0f} s in this run, with what was kept of earlier "
        f"ones. {results.models} models in {len(results.families)} families (data set and architecture), "
        f"{len(results.benign(first))} benign and {len(results.harmful(first))} harmful pairs, each judged with "
        f"{sizes} images and a floor of {FLOOR} retrains. Maps by attrail's Grad-CAM and occlusion. Pairs share "
        "models, so they are not independent: beside Wilson's interval stands one of a bootstrap over families and "
        "models."
    )


def detectors(results: Results) -> str:
    head = ["detector", "images", "false positives", "Wilson 95 %", "clustered 95 %", "models ever flagged",
            "power, visible shortcuts", "where learned", "AUC", "AUC within families"]  # fmt: skip
    rows = []
    for name in NAMES:
        for images in results.sizes:
            benign, visible = results.benign(images), results.visible(images)
            false = rate(benign, name)
            rows.append(
                [name, str(images), f"{false.hits}/{false.trials} = {percent(false.share)}", _limits(false.wilson),
                 _limits(false.clustered), _ever(benign, name), number(power(visible, name)),
                 number(power(results.visible(images, learned=True), name)), number(auc(visible, benign, name)),
                 number(mean_auc(visible, benign, name))]
            )  # fmt: skip
    return "## Detectors\n\n" + table(head, rows)


def _ever(found: Sequence[Judged], detector: str) -> str:
    """Models flagged in any of their pairs, of all: the most cautious count, as pairs of one model go together."""
    flagged = {each.pair.model for each in found if each.flagged(detector)}
    return f"{len(flagged)}/{len({each.pair.model for each in found})}"


def _limits(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.1f}-{100 * interval[1]:.1f} %"


def benign(results: Results) -> str:
    rows = []
    for group in results.groups(harmful=False):
        found = {images: results.benign(images, group) for images in results.sizes}
        one = found[results.sizes[0]]
        rows.append([group, str(len({each.pair.model for each in one})), str(len(one)), *_powers(found)])
    head = ["benign candidate", "models", "pairs", *_columns()]
    return f"## False positives by kind\n\n{_flagged(results)}\n\n" + table(head, rows)


def _columns() -> list[str]:
    return list(NAMES)


def _flagged(results: Results, by: str = "") -> str:
    return f"Share flagged{by} with {' / '.join(map(str, results.sizes))} images."


def _powers(found: dict[int, list[Judged]]) -> list[str]:
    return [" / ".join(number(power(each, name)) for each in found.values()) for name in NAMES]


def harmful(results: Results) -> str:
    rows, first = [], results.sizes[0]
    for group in results.groups(harmful=True):
        found = {images: results.harmful(images, group) for images in results.sizes}
        rows.append([group, *_facts(results, found[results.sizes[-1]]), *_powers(found),
                     number(auc(found[first], results.benign(first), "attrail"))])  # fmt: skip
    head = ["harmful candidate", "models", "accuracy", "reliance", *_columns(), f"AUC, attrail, {first}"]
    text = (
        f"{_flagged(results)} Accuracy on the slice: champion, candidate; means. Reliance: "
        "by what share the log odds of the class fall when the mark says another class (0: ignored, above 1: believed "
        f"against the picture); in brackets the models below {LEARNED:g}, which hardly learned it."
    )
    return f"## Power by kind\n\n{text}\n\n" + table(head, rows)


def _facts(results: Results, found: Sequence[Judged]) -> list[str]:
    models = {each.pair.model: results.reliance[each.pair.candidate.recipe.digest] for each in found}
    known = [each for each in models.values() if each is not None]
    few = sum(each < LEARNED for each in known)
    reliance = f"{number(float(np.mean(known)))} ({few})" if known else "-"
    before, after = np.mean([each.accuracies for each in found], axis=0)
    return [str(len(models)), f"{before:.2f}, {after:.2f}", reliance]


def _scatter(results: Results) -> str:
    rows = []
    for name, each in spreads(results.scattered).items():
        rows.append([name, number(each.variance**0.5), f"{each.freedom:.1f}"])
        for family in results.families:
            own = [part for part in results.scattered if part.family == family and part.statistic == name]
            found = spreads(own).get(name)
            rows.append([f"{name}, {' '.join(family)}", number(found.variance**0.5) if found else "-", "-"])
    text = (
        "The standard deviation of the log distances of a floor's five retrains by one explainer, shared by all floors "
        "(Smyth 2004), and for how many degrees of freedom floors of other families may take it; the library counts "
        f"{MOST:g} at most. Above, every family is judged with what the others show."
    )
    return f"## How much retrains scatter\n\n{text}\n\n" + table(["statistic", "SD", "freedom"], rows)


def _failures(results: Results, picture: str) -> str:
    rows = []
    for group, amount in (*RARITY.items(), *BLURS.items()):
        found = {images: results.harmful(images, group) for images in results.sizes}
        label = f"mark on {amount:.0%} of the images" if group in RARITY else f"blur of up to {amount:g} pixels"
        rows.append([label, *_powers(found)])
    return (
        f"## Where it fails\n\n![Power against the share of marked images]({picture})\n\n"
        f"{_flagged(results)}\n\n" + table(["candidate", *_columns()], rows)
    )


def _sub_populations(results: Results) -> str:
    kinds = dict.fromkeys((each.candidate, each.explainer) for each in results.found)
    rows = []
    for kind in kinds:
        found = [each for each in results.found if (each.candidate, each.explainer) == kind]
        rows.append([*kind, str(len(found)), number(float(np.mean([each.flagged for each in found]))),
                     *_list_quality(found), number(_share([each.top for each in found], found))])  # fmt: skip
    head = ["candidate", "explainer", "audits", "verdict DRIFT", "recall of the list", "its false discoveries",
            "recall of the farthest 5 %"]  # fmt: skip
    return (
        f"## A sub-population of 5 % of {IMAGES} images\n\nThe mark stands on {RARITY['rare mark 5 %']:.0%} of the "
        "images. The list is what the library names as moved at 5 % false discoveries; its false discoveries are the "
        "mean share of each list that is wrong.\n\n" + table(head, rows)
    )


def _list_quality(found: Sequence[Found]) -> list[str]:
    """Recall over all audits, and the mean over audits of the share of the list that is wrong (empty: 0)."""
    wrong = [(each.named - each.rightly) / max(each.named, 1) for each in found]
    return [number(_share([each.rightly for each in found], found)), number(float(np.mean(wrong)))]


def _share(hits: Sequence[int], found: Sequence[Found]) -> float:
    """Of the images that moved, NaN where none did."""
    moved = sum(each.moved for each in found)
    return sum(hits) / moved if moved else float("nan")


def families(results: Results) -> str:
    rows = []
    for family in results.families:
        benign = [each for each in results.benign(results.sizes[-1]) if each.pair.family == family]
        recipe = benign[0].pair.champion.recipe
        right = float(np.mean([each.accuracies[0] for each in benign]))
        flagged = [_by_size(results, kind, family) for kind in (results.benign, results.visible)]
        rows.append([" ".join(family), str(recipe.images), str(recipe.epochs), percent(right), *flagged])
    head = [
        "family",
        "images trained on",
        "epochs",
        "champions' accuracy",
        "false positives",
        "power, visible shortcuts",
    ]
    return f"## Families\n\n{_flagged(results, ' by attrail')}\n\n" + table(head, rows)


def _by_size(results: Results, kind: Callable[[int], list[Judged]], family: tuple[str, str]) -> str:
    found = [[each for each in kind(images) if each.pair.family == family] for images in results.sizes]
    return " / ".join(percent(power(each, "attrail")) for each in found)


def notes(results: Results) -> str:
    lines = [f"- {name} ({each.origin})." for name, each in BASELINES.items()]
    failures = [f"- {name}: {reason}" for name, reason in sorted(results.failed.items())]
    return "\n".join(
        ["## Lines of the baselines", "", *lines, *(["", "## Not explained", "", *failures] if failures else [])]
    )
