"""``attrail windows``: one version on two windows of production images."""

from attrail_flows.configuration import AuditConfig
from attrail_flows.engine.serial_engine import explained_alone
from attrail_flows.inputs.slices import read_windows
from attrail_mlflow.registry.registry import Registry
from attrail_monitoring.windows import QUESTION, TwoSample, compare_windows


def window_lines(config: AuditConfig, model_uri: str, windows: tuple[str, str], explainer_name: str) -> list[str]:
    """Explain both windows and say, statistic by statistic, whether their maps are distributed alike."""
    chosen = config.narrowed(explainer_name, *windows).of_predictions()
    registry = Registry(config.registry.tracking_uri)
    version = registry.resolve(config.registry.model, model_uri)
    _, explained = explained_alone(chosen, registry, version, read_windows(chosen, version))
    maps = explained.version_maps
    first, second = (maps.of((window, explainer_name)) for window in windows)
    found = compare_windows(first, second, config.policy.to_policy().settings)
    return [*(_line(each, config.policy.alpha) for each in found), QUESTION]


def _line(found: TwoSample, alpha: float) -> str:
    alike = "differ" if found.p_value <= alpha else "no difference shown"
    return (
        f"{found.statistic}: {found.value:.4g}, p = {found.p_value:.4g}: {alike} "
        f"({found.used[0]} and {found.used[1]} images, {sum(found.undefined)} without a map)"
    )
