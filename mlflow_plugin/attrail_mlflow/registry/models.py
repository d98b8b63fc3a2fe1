"""Which models a registry has, their newest versions, and who holds which alias."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from attrail_mlflow.registry.errors import asking
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.registry.searching import registered_models, versions_named
from attrail_mlflow.registry.tags import REFERENCE_TAG, RUN_ID_TAG


@dataclass(frozen=True)
class ListedModel:
    """A registered model: its ``newest`` version, that version's tags, and the version that each alias names."""

    name: str
    newest: str
    tags: Mapping[str, str]
    aliases: Mapping[str, str]

    def was_audited_against(self, version: str) -> bool:
        """Whether the newest version carries a verdict of an audit against another version."""
        stated = self.tags.get(REFERENCE_TAG)
        return RUN_ID_TAG in self.tags and stated == f"models:/{self.name}/{version}"


def models(registry: Registry, matching: str = "") -> Iterator[ListedModel]:
    """Every model with a version, by name; ``matching`` is MLflow's filter, such as ``name LIKE 'digits%'``.

    Raises RegistryError when MLflow refuses the filter or cannot be reached.
    """
    with asking(f"the models at {registry.shown} cannot be listed"):
        for each in sorted(registered_models(registry.client, matching), key=lambda model: str(model.name)):
            newest = next(versions_named(registry.client, str(each.name), page=1), None)
            if newest is not None:
                aliases = {alias: str(version) for alias, version in each.aliases.items()}
                yield ListedModel(str(each.name), str(newest.version), newest.tags, aliases)
