"""Choosing earlier versions as a noise floor: the command ``attrail floor``, and the question before an audit."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from attrail_explainers.errors import ConfigError
from attrail_flows.console.options import CONFIG, quiet_console, say

if TYPE_CHECKING:
    from attrail_flows.configuration import AuditConfig
    from attrail_mlflow.history.choice import FloorChoice
    from attrail_mlflow.history.proposal import Considered, Proposal
    from attrail_mlflow.registry.registry import Registry

NONE_CHOSEN = 3


@click.command()
@CONFIG
@click.option("--model", help="A registered model; instead of registry.model.")
@click.option("--reference", help="Alias, version or models:/ URI; instead of registry.reference.")
@click.option("--candidate", help="What will be audited; instead of registry.candidate. Newer versions are left.")
@click.option("--accept", is_flag=True, help="Choose all that can be taken, without a question.")
@click.option("--versions", help="Choose these, as 2,3,5,6, though something may speak against them.")
@click.option("--by", help="Who chooses; default the user that MLflow knows, else user@machine.")
@click.option("--why", help="Why, in the words of who chooses.")
def floor(  # noqa: PLR0913, PLR0917 - one option each
    config_file: Path,
    model: str | None,
    reference: str | None,
    candidate: str | None,
    accept: bool,
    versions: str | None,
    by: str | None,
    why: str | None,
) -> None:
    """Which other versions can be the reference's noise floor, and why each was taken or left; choose some.

    A choice is kept with the reference, and used where registry.floor is "history". Exit status: 0 one is there and
    can be used, 3 none is, 2 as for audit.
    """
    quiet_console()
    choosing = accept or versions is not None
    if accept and versions is not None:
        raise ConfigError("--accept chooses all that can be taken, --versions some: give one of them")
    if (by or why) and not choosing:
        raise ConfigError("--by and --why belong to a choice: give --accept or --versions as well")
    config = _config(config_file, model, reference, candidate)
    say(f"floor of {config.registry.model}: looking at its versions, their runs and files")
    registry = _registry(config)
    known = None if choosing else _known(registry, config)
    named = [each.strip() for each in versions.split(",")] if versions is not None else []
    found = _proposed(registry, config, [*named, *(each.version for each in (known.versions if known else ()))])
    from attrail_flows.console.floor_table import print_proposal
    from attrail_monitoring.inference.prediction_bound import FEWEST

    holds = print_proposal(found, known, config.registry.change)
    if choosing:
        _choose(registry, config, found, found.taken if accept else _named(found, named), by, why)
    elif not holds:
        first = "choose anew" if known else "nothing was chosen yet"
        accepted = "--accept chooses all that can be taken, " if len(found.taken) >= FEWEST else ""
        click.echo(f"{first}: {accepted}--versions 2,3,5,6 chooses these, whatever is said of them above")
        sys.exit(NONE_CHOSEN)


def ask_for_floor(config: "AuditConfig") -> None:
    """Ask at the terminal, once, for the versions of a floor that is history, and keep the answer with the reference.

    Nothing is asked where the floor is none, where it was chosen before, or where nobody can answer.
    """
    if config.registry.floor != "history" or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    from attrail_flows.console.floor_table import counted, print_proposal
    from attrail_flows.inputs.floor_versions import require_change
    from attrail_monitoring.inference.prediction_bound import FEWEST

    require_change(config.registry)
    registry = _registry(config)
    if _known(registry, config) is not None:
        return
    say("the floor is history, of which nobody chose versions yet: looking at their runs and files")
    found = _proposed(registry, config)
    print_proposal(found, None, config.registry.change, stderr=True)
    if len(found.taken) < FEWEST:
        return
    if click.confirm(f"use {counted(found.taken)} as the floor of {found.label}?", err=True):
        _choose(registry, config, found, found.taken)


def _config(path: Path, model: str | None, reference: str | None, candidate: str | None) -> "AuditConfig":
    """The configuration with what was given put over it; of another model it says no candidate."""
    from attrail_flows.configuration import read_config

    config = read_config(path, reference, candidate)
    return config.between(model, config.registry.reference, candidate) if model else config


def _registry(config: "AuditConfig") -> "Registry":
    from attrail_mlflow.registry.registry import Registry

    registry = Registry(config.registry.tracking_uri)
    registry.require_answer()
    return registry


def _known(registry: "Registry", config: "AuditConfig") -> "FloorChoice | None":
    from attrail_mlflow.history.choice import find_choice

    return find_choice(registry, registry.find(config.registry.model, config.registry.reference))


def _proposed(registry: "Registry", config: "AuditConfig", insisted: Sequence[str] = ()) -> "Proposal":
    from attrail_mlflow.history.proposal import Asked, propose

    section = config.registry
    which = (section.model, section.reference, section.candidate, section.change, section.experiment)
    return propose(registry, Asked(*which, allow_pickle=config.policy.allow_pickle), insisted, say)


def _named(found: "Proposal", numbers: Sequence[str]) -> list["Considered"]:
    """The named versions of a proposal; ConfigError for one that is not there, comes twice or can be in no floor."""
    there = {each.version: each for each in found.considered}
    for each in numbers:
        if each not in there:
            known = ", ".join(reversed(there)) or "none"
            raise ConfigError(f"--versions names {each!r}: the versions beside {found.label} are {known}")
        if there[each].never:
            raise ConfigError(f"version {each} can be in no floor of {found.label}: {'; '.join(there[each].never)}")
        if numbers.count(each) > 1:
            raise ConfigError(f"--versions names {each} twice: every version counts once")
    return [there[each] for each in numbers]


def _choose(
    registry: "Registry",
    config: "AuditConfig",
    found: "Proposal",
    chosen: Sequence["Considered"],
    by: str | None = None,
    why: str | None = None,
) -> None:
    """Keep a choice with the reference, and say so; ConfigError for fewer versions than a floor needs."""
    from attrail_flows.console.floor_table import counted
    from attrail_mlflow.history.choice import choice_of, keep_choice, who
    from attrail_monitoring.inference.prediction_bound import FEWEST

    if len(chosen) < FEWEST:
        raise ConfigError(
            f"a floor needs {FEWEST} versions, {len(chosen)} {'is' if len(chosen) == 1 else 'are'} there to choose "
            f"({counted(chosen) or 'none'}): --versions may set aside what speaks against others"
        )
    choice = choice_of(found, chosen, config.registry.change, by or who(), why)
    keep_choice(registry, config.registry.experiment, found.reference, choice)
    click.echo(f"chosen    {counted(chosen)} are the floor of {found.label}, by {choice.by}", err=True)
