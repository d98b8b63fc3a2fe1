"""Commands of the gate: promote on signed evidence, grant a waiver.

Neither needs torch. Exit status of ``attrail gate``: 0 promoted, 1 refused because the verdict is DRIFT, 2 usage or
registry error, 3 refused because there is no evidence that lets the version through.
"""

import os
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from attrail_explainers.errors import ConfigError, GateRefusal
from attrail_flows.console.options import CONFIG, TRACKING, quiet_console, say

if TYPE_CHECKING:
    from attrail_mlflow.gate.policy import GatePolicy

DRIFT, NO_EVIDENCE = 1, 3
POLICY = click.option(
    "--policy",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="ATTRAIL_GATE_POLICY",
    help="The gate's policy; with it the evidence is looked at here before the server is asked.",
)
ALIAS = click.option("--alias", default="champion", show_default=True, help="The alias to give.")


@click.command()
@click.argument("model_uri")
@ALIAS
@POLICY
@click.option("--dry-run", is_flag=True, help="Only look at the evidence; needs --policy.")
@TRACKING
def gate(model_uri: str, alias: str, policy: Path | None, dry_run: bool, tracking_uri: str | None) -> None:
    """Promote a model version, if its signed evidence lets it through.

    MODEL_URI is models:/NAME/VERSION. Exit status: 0 promoted, 1 the verdict is DRIFT, 3 no evidence that holds, 2
    usage or registry error.
    """
    from attrail_mlflow.gate.client import Candidate
    from attrail_mlflow.registry.registry import Registry

    if dry_run and policy is None:
        raise ConfigError("--dry-run looks at the evidence under the gate's policy: give --policy")
    rules = _policy(policy) if policy else None
    candidate = Candidate.find(Registry(tracking_uri), model_uri)
    if rules is not None:
        decision = candidate.decision(alias, rules)
        if not decision.allowed:
            _refused(decision.sentence, decision.reasons)
        click.echo(f"evidence  {decision.sentence}")
    if dry_run:
        return
    try:
        candidate.promote(alias)
    except GateRefusal as error:
        _refused(str(error), error.reason.split(", "))
    click.echo(f"promoted  {candidate.label} is {alias}")


@click.command()
@click.argument("model_uri")
@ALIAS
@click.option("--stage", help="A stage instead of an alias, such as Production.")
@click.option("--reason", required=True, help="Why the version must be promoted without a passing verdict.")
@click.option("--hours", type=click.IntRange(1, 24 * 30), default=24, show_default=True, help="How long it is good.")
@click.option("--by", "granted_by", help="Who answers for it; default user@machine.")
@POLICY
@TRACKING
def waive(  # noqa: PLR0913, PLR0917 - one option each
    model_uri: str,
    alias: str,
    stage: str | None,
    reason: str,
    hours: int,
    granted_by: str | None,
    policy: Path | None,
    tracking_uri: str | None,
) -> None:
    """Grant a waiver: let these very files take an alias once, without a verdict.

    It is signed with the key that ATTRAIL_SIGNING_KEY names, which must be one that the gate trusts for waivers; it is
    in the journal of ATTRAIL_JOURNAL, if there is one, before the version carries it as a tag.
    """
    from attrail_mlflow.gate.client import Candidate
    from attrail_mlflow.journal.hash_chain import Event
    from attrail_mlflow.journal.journal import this_actor
    from attrail_mlflow.registry.registry import Registry
    from attrail_mlflow.registry.tags import WAIVER_TAG
    from attrail_mlflow.statements.waiver import Waiver
    from attrail_mlflow.trail.attestation import Trail

    trail = Trail.from_environment()
    if trail.signer is None:
        raise ConfigError("a waiver must be signed: set ATTRAIL_SIGNING_KEY to a key that the gate trusts for waivers")
    role = _waivable(policy, str(trail.signer.public_key.keyid), alias, stage)
    candidate = Candidate.find(Registry(tracking_uri), model_uri)
    now = datetime.now(UTC).replace(microsecond=0)
    expires = now + timedelta(hours=hours)
    waiver = Waiver(now, expires, candidate.identity(), role, granted_by or this_actor(), reason)
    envelope = trail.carried(waiver)
    trail.note(Event.WAIVER, {"waiver": waiver.document()})
    candidate.carry(WAIVER_TAG, envelope)
    click.echo(f"waived    {candidate.label} may become {role} once, until {expires:%Y-%m-%d %H:%M:%S} UTC")


@click.command()
@click.argument("model_uri")
@CONFIG
def baseline(model_uri: str, config_file: Path) -> None:
    """Make the signed evidence for a first champion: its explanations, and whether the explainers hold.

    Exit status: 0 every check passed, 3 one did not, 2 as for audit.
    """
    quiet_console()
    from attrail_flows.configuration import read_config

    config = read_config(config_file)
    say(f"baseline of {model_uri}: looking at the version and the slices first")
    from attrail_flows.inputs.preflight import preflight_version

    preflight_version(config, model_uri)
    caution_of_gate("baseline")
    from attrail_flows.one_version.baseline import baseline as make
    from attrail_mlflow.runs.baseline_run import passed

    found = make(config, model_uri)
    for each in found.checks:
        numbers = ", ".join(f"{name} {value:g}" for name, value in each.numbers.items())
        word = "ok" if each.passed else "FAILED"
        click.echo(f"{word:9} {each.check} of {each.explainer} on {each.slice}: {numbers}")
    click.echo(f"baseline  {found.model.label}, run {found.run_id}")
    sys.exit(0 if passed(found.checks) else NO_EVIDENCE)


@click.command()
@CONFIG
@click.option("--deployment", required=True, help="The audit's Prefect deployment, as FLOW/DEPLOYMENT.")
@click.option("--secret-file", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The webhook's.")
@click.option("--inbox", type=click.Path(dir_okay=False, path_type=Path), default="inbox.db", show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), default=5080, show_default=True)
def serve(config_file: Path, deployment: str, secret_file: Path, inbox: Path, host: str, port: int) -> None:
    """Receive MLflow's webhooks, and start one audit for every version that is registered.

    Create the webhook in MLflow for the event model_version.created, with the secret that the file holds, and the
    address http://HOST:PORT/mlflow.
    """
    import uvicorn

    from attrail_explainers.files.plain_file import read_plain
    from attrail_flows.configuration import read_config
    from attrail_flows.deployment.webhook_receiver import Starter, create_app, start_audit
    from attrail_mlflow.webhooks.inbox import Inbox

    try:
        secret = read_plain(secret_file).strip()
    except OSError as error:
        raise ConfigError(f"the webhook's secret {secret_file} cannot be read: {error}") from error
    if not secret:
        raise ConfigError(f"{secret_file} is empty: it must hold the webhook's secret")
    config, box = read_config(config_file), Inbox(inbox)
    starter = Starter(box, partial(start_audit, config, deployment))
    uvicorn.run(create_app(box, starter, secret, config.registry.model), host=host, port=port, log_level="info")


@click.command()
@POLICY
@TRACKING
def reconcile(policy: Path | None, tracking_uri: str | None) -> None:
    """Look at who holds the protected aliases and stages now, and report every one whose evidence does not hold.

    Exit status: 0 all of it holds, 3 some does not, 2 usage or registry error.
    """
    from attrail_mlflow.gate.reconciliation import held_roles
    from attrail_mlflow.registry.registry import Registry

    if policy is None:
        raise ConfigError("evidence is looked at under the gate's policy: give --policy")
    doubtful = 0
    for found in held_roles(Registry(tracking_uri), _policy(policy)):
        doubtful += bool(found.reasons)
        click.echo(f"{'DOUBTFUL' if found.reasons else 'ok':9} {found.sentence}")
    sys.exit(NO_EVIDENCE if doubtful else 0)


def caution_of_gate(kind: str) -> None:
    """Say when the gate policy that ATTRAIL_GATE_POLICY names does not trust this process's key for what it signs."""
    from attrail_mlflow.gate.policy import VARIABLE
    from attrail_mlflow.signing.keys import signer_from_environment
    from attrail_mlflow.signing.kind import Kind

    path, signer = os.environ.get(VARIABLE), signer_from_environment()
    if not path or signer is None:
        return
    try:
        _policy(Path(path)).trusted.require(str(signer.public_key.keyid), Kind(kind))
    except ConfigError as error:
        say(f"caution: the gate will refuse what this {kind} allows: {error}")


def _policy(path: Path) -> "GatePolicy":
    from attrail_mlflow.gate.policy import read_gate_policy

    return read_gate_policy(path, serving=False)


def _waivable(policy: Path | None, key: str, alias: str, stage: str | None) -> str:
    """The role that a waiver is for; ConfigError when the policy at hand does not protect it or trust the key."""
    from attrail_mlflow.gate.policy import STAGE
    from attrail_mlflow.signing.kind import Kind

    if policy is None:
        click.echo(
            "caution   no gate policy is at hand, so nobody looked whether the gate trusts this key: give --policy"
        )
        return f"{STAGE}{stage}" if stage else alias
    rules = _policy(policy)
    role = rules.role_of_stage(stage) if stage else rules.role_of_alias(alias)
    if role is None:
        protected = ", ".join(rules.stages if stage else rules.aliases) or "none"
        what = f"the stage {stage!r}" if stage else f"the alias {alias!r}"
        raise ConfigError(
            f"gate policy {policy} does not protect {what}, so it needs no waiver: it protects {protected}"
        )
    rules.trusted.require(key, Kind.WAIVER)
    return role


def _refused(sentence: str, reasons: Any) -> None:
    click.echo(f"REFUSED   {sentence}" + ("" if sentence.endswith("]") else f" [{', '.join(reasons)}]"), err=True)
    sys.exit(DRIFT if "verdict-drift" in reasons else NO_EVIDENCE)
