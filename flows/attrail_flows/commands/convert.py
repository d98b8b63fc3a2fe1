"""The command that makes an exported version of a pickled one."""

from pathlib import Path

import click

from attrail_flows.console.options import CONFIG, quiet_console, say

SIZES = 3


class Shape(click.ParamType[tuple[int, int, int]]):
    """Three whole numbers with commas, such as 3,224,224."""

    name = "C,H,W"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int, int]:
        parts = value.split(",")
        numbers = [int(each) for each in parts if each.strip().isdecimal()]
        if len(parts) != SIZES or len(numbers) != SIZES or 0 in numbers:
            self.fail(f"{value!r} is no size of an image: write channels, height and width, such as 3,224,224")
        return numbers[0], numbers[1], numbers[2]


@click.command()
@click.argument("model_uri")
@CONFIG
@click.option("--to", help="The registered model that gets the export; default the version's own.")
@click.option("--shape", type=Shape(), help="Size of an image, where signature and preprocessing do not say it.")
@click.option("--memory", type=click.IntRange(1), default=8, show_default=True, help="GiB that it may take.")
@click.option("--seconds", type=click.IntRange(1), default=600, show_default=True, help="How long it may take.")
@click.option(
    "--weaker-confinement", "weaker", is_flag=True, help="Load it though this machine cannot confine it in full."
)
def convert(
    model_uri: str,
    config_file: Path,
    to: str | None,
    shape: tuple[int, int, int] | None,
    memory: int,
    seconds: int,
    weaker: bool,
) -> None:
    """Make an exported version of a pickled one, which is loaded once, with nothing to reach or write.

    The export is a new version, checked to be the same function; no alias is moved. Done again, it does nothing.
    """
    quiet_console()
    from attrail_flows.configuration import read_config

    config = read_config(config_file)
    say(f"convert {model_uri}: looking at its files first")
    from attrail_explainers.conversion.process import Limits
    from attrail_flows.one_version.convert import Ordered, convert_version
    from attrail_mlflow.signing.keyless_process import call_apart, must_be_apart

    ordered = Ordered(Limits(memory * 2**30, seconds), to, shape, weaker)
    for line in call_apart(must_be_apart(), convert_version, config, model_uri, ordered):
        click.echo(line)
