"""What is said of an audit beside its rows: cautions, scales, the sequence, rules."""

from collections.abc import Iterator, Mapping
from typing import Any

AS_THEY_ARE = ("values", "embeddings", "boxes")  # outputs that are no logits


def lines_beside(document: Mapping[str, Any]) -> Iterator[str]:
    """What counts beside the rows: cautions about slices, whose floor, what versions return, the sequence, rules."""
    for each in document["slices"]:
        yield from (f"caution on {each['name']}: {caution}" for caution in each["cautions"])
    yield from _choice(document)
    yield from _scales(document)
    yield from _look(document)
    yield from _sequence(document)
    yield from _rules(document)


def _choice(document: Mapping[str, Any]) -> Iterator[str]:
    """Who chose the floor, where it was chosen out of the history."""
    choice = document.get("floor_choice")
    if choice is not None:
        versions = ", ".join(each["version"] for each in choice["versions"])
        yield f"floor: versions {versions}, chosen out of the history by {choice['by']} on {choice['time'][:10]}"


def _scales(document: Mapping[str, Any]) -> Iterator[str]:
    """One line for each version that returns something other than logits."""
    for each in (document["reference"], document["candidate"]):
        if each["outputs"] != "logits":
            scale = "" if each["outputs"].startswith(AS_THEY_ARE) else "; versions are compared on the scale of logits"
            yield f"{each['label']} returns {each['outputs']}{scale}"


def _look(document: Mapping[str, Any]) -> Iterator[str]:
    """At which look the audit ended, one line where there was more than one to come."""
    look = document.get("look")  # records of before have none
    if look is not None:
        images = f"the first {look['images']} images of each slice in the order drawn by the policy's seed"
        yield f"look {look['number']} of {look['planned']}: {images}"


def _sequence(document: Mapping[str, Any]) -> Iterator[str]:
    """How far the scheduled audits are from their alarm together, one line if the audit is one of them."""
    state = document["sequence"]
    if state is not None:
        alarm = 1 / document["policy"]["alpha"]
        raised = "raised" if state["peak"] >= alarm else "not raised"
        highest = "" if state["peak"] <= state["e_value"] else f", {state['peak']:.3g} at most so far"
        yield (
            f"sequence {state['name']}, {len(state['fed'])} audits: e = {state['e_value']:.3g}{highest}; "
            f"the alarm at {alarm:g} is {raised}"
        )


def _rules(document: Mapping[str, Any]) -> Iterator[str]:
    """Every rule of the configuration that was not met, and how many were."""
    rules = document["rules"]
    failed = [each for each in rules if not each["success"]]
    for each in failed:
        name = f" {each['name']}" if each["name"] else ""
        shown = "" if each["severity"] == "critical" else f" ({each['severity']}, shown only)"
        yield f"rule{name} not met{shown}: {each['observed'].rstrip('.')}; expected: {each['expected']}"
    if rules:
        yield f"{len(rules) - len(failed)} of {len(rules)} rules met"
