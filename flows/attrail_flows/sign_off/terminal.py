"""A sign-off by whoever sits at the terminal where a promotion runs."""

import click
from pydantic import ValidationError

from attrail_flows.sign_off.form import SignOff


def ask_here(question: str) -> SignOff:
    """Show the question (markdown) and ask for every field of the form, again until the form takes the answer.

    Raises click.Abort when the terminal has no more to say.
    """
    click.echo(f"\n{question}\n")
    while True:
        given = {
            "decision": click.prompt("Decision", type=click.Choice(["approve", "reject"])),
            "by": click.prompt("By, a name that can be asked later"),
            "why": click.prompt("Why, and what was looked at"),
        }
        try:
            return SignOff.model_validate(given)
        except ValidationError as error:
            for each in error.errors():
                click.echo(f"{each['loc'][0]}: {each['msg']}")
