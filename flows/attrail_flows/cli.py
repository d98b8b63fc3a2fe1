"""The command line: every command of the files of ``commands/``.

Heavy imports happen inside the commands, so that ``attrail --help`` answers at once.
"""

import errno
import importlib
import pkgutil
import sys
import traceback
from types import ModuleType

import click

from attrail_explainers.errors import AttrailError
from attrail_flows import commands

ERROR = 2
MACHINE = {errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="attrail")
def attrail() -> None:
    """Did the evidence behind a model's predictions move? Audit two versions from an MLflow registry.

    Exit status: 0 PASS, 1 DRIFT, 2 usage, configuration, data or registry error, 3 INCONCLUSIVE.
    """


def commands_of(module: ModuleType) -> list[click.Command]:
    """The commands that a file defines, without those below its own groups."""
    found = [each for each in vars(module).values() if isinstance(each, click.Command)]
    own = [each for each in found if getattr(each.callback, "__module__", None) == module.__name__]
    below = [each for group in own if isinstance(group, click.Group) for each in group.commands.values()]
    return [each for each in own if each not in below]


for _file in pkgutil.iter_modules(commands.__path__):
    for _command in commands_of(importlib.import_module(f"{commands.__name__}.{_file.name}")):
        attrail.add_command(_command)


def main() -> None:
    """Run the command line; whatever goes wrong ends with status 2, never with the 1 that means DRIFT."""
    try:
        sys.exit(attrail.main(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(ERROR)
    except (click.Abort, KeyboardInterrupt):
        click.echo("attrail: interrupted", err=True)
        sys.exit(ERROR)
    except AttrailError as error:
        click.echo(f"attrail: {error}", err=True)
        sys.exit(ERROR)
    except OSError as error:
        if error.errno not in MACHINE:
            _show_defect()
        else:
            place = f" {error.filename}" if error.filename else ""
            click.echo(
                f"attrail: this machine did not let a file be written or read:{place} {error.strerror}", err=True
            )
        sys.exit(ERROR)
    except Exception:  # noqa: BLE001 - a defect of attrail or of a library: show all of it, and do not look like a verdict
        _show_defect()
        sys.exit(ERROR)


def _show_defect() -> None:
    traceback.print_exc()
    click.echo(
        "attrail: this is a defect of attrail or of a library it uses; nothing was recorded as finished", err=True
    )
