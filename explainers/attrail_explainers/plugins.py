"""One file is one plug-in: how explainers, checks and statistics are found by the names of their files, and made."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attrail_explainers.errors import ConfigError, UnknownNameError
from attrail_explainers.parameters import plain


@dataclass(frozen=True)
class Plugins:
    """The plug-ins of a ``package``: each file is one and says under ``exported`` which class it defines.

    ``kind`` is the word for one of them in messages, as "explainer".
    """

    kind: str
    package: str
    exported: str

    def names(self) -> list[str]:
        """Names of all plug-ins, sorted: the package's files without their endings."""
        return sorted(module.name for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__))

    def class_of(self, name: str) -> Any:
        """The class that the file ``name`` defines; UnknownNameError lists the known names.

        Raises ConfigError, which names the file, for one that exports no class.
        """
        if name not in self.names():
            raise UnknownNameError.of(self.kind, name, self.names())
        module = importlib.import_module(f"{self.package}.{name}")
        found = getattr(module, self.exported, None)
        if not isinstance(found, type):
            raise ConfigError(
                f"{module.__file__} is no {self.kind}: expected its class under the name {self.exported}, found "
                f"{'nothing' if found is None else repr(found)}; end the file with {self.exported} = the class"
            )
        return found

    def make(self, name: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """The plug-in ``name`` with ``parameters``; ConfigError names a parameter that it does not have."""
        plugin_class = self.class_of(name)
        known = [each.name for each in dataclasses.fields(plugin_class)]
        for parameter in parameters or {}:
            if parameter not in known:
                raise ConfigError(f"{self.kind} {name!r} has no parameter {parameter!r}: it takes {', '.join(known)}")
        return plugin_class(**{parameter: plain(value) for parameter, value in (parameters or {}).items()})

    @staticmethod
    def parameters_of(plugin: Any) -> dict[str, Any]:
        """Return a plug-in's parameters by name, as Python has them: they enter digests and records."""
        return {parameter: plain(value) for parameter, value in dataclasses.asdict(plugin).items()}

    @staticmethod
    def name_of(plugin: object) -> str:
        """The name under which a plug-in is found."""
        return type(plugin).__module__.rpartition(".")[2]
