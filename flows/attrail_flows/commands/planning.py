"""Commands that look at no model: plan, and list, which says what there is to choose from."""

import click


@click.command()
@click.option("--effect", type=float, help="Wanted paired shift, in the units of --sd.")
@click.option("--sd", type=float, default=1.0, show_default=True, help="Standard deviation over images.")
@click.option("--shift", type=float, help="Wanted shift of the floor, in SDs of the retrains' log distances.")
@click.option("--images", type=int, help="Images at hand: says what they can show.")
@click.option("--retrains", type=int, help="Retrains at hand: says what they can show.")
@click.option(
    "--hypotheses",
    type=click.IntRange(min=1),
    default=6,
    show_default=True,
    help="Explainers x primary statistics x slices.",
)
@click.option("--alpha", type=float, default=0.05, show_default=True)
@click.option("--power", type=float, default=0.9, show_default=True)
def plan(  # noqa: PLR0913, PLR0917 - one option each
    effect: float | None,
    sd: float,
    shift: float | None,
    images: int | None,
    retrains: int | None,
    hypotheses: int,
    alpha: float,
    power: float,
) -> None:
    """How many images and reference retrains a wanted effect needs, or what those at hand can show."""
    from attrail_flows.console.plan_lines import plan_lines
    from attrail_monitoring.verdict.policy import Policy

    level = Policy(alpha=alpha).level(hypotheses, together=True, moved=True, decided=True)  # as with two explainers
    for line in plan_lines(effect, sd, shift, images, retrains, level, power):
        click.echo(line)


@click.command("list")
@click.argument("kind", type=click.Choice(["explainers", "statistics", "checks"]))
def list_(kind: str) -> None:
    """List the explainers, the statistics or the checks there are."""
    from attrail_flows.console.check_tables import print_checks
    from attrail_flows.console.printing import print_explainers, print_statistics

    {"explainers": print_explainers, "statistics": print_statistics, "checks": print_checks}[kind]()
