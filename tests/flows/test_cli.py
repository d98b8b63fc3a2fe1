"""The command line finds its commands in the files of ``commands/``."""

import importlib
import pkgutil
import types

import click

from attrail_flows import commands
from attrail_flows.cli import attrail, commands_of


def test_every_file_gives_commands_and_every_command_comes_from_one() -> None:
    files = [
        importlib.import_module(f"attrail_flows.commands.{each.name}")
        for each in pkgutil.iter_modules(commands.__path__)
    ]
    found = {module.__name__: commands_of(module) for module in files}
    assert all(found.values()), "a file without a command stands in console/"
    names = [each.name for group in found.values() for each in group]
    assert sorted(names) == sorted(attrail.commands)
    assert {"audit", "list", "keys", "audit-registry"} <= set(names)


def test_what_a_file_imports_or_puts_below_its_group_is_no_command_of_its_own() -> None:
    module = types.ModuleType("attrail_flows.commands.greetings")
    code = """
import click
from attrail_flows.commands.planning import plan

@click.command()
def hello():
    pass

@click.group()
def wave():
    pass

@wave.command()
def twice():
    pass
"""
    exec(compile(code, "greetings.py", "exec"), vars(module))
    assert isinstance(vars(module)["twice"], click.Command)
    assert [each.name for each in commands_of(module)] == ["hello", "wave"]
