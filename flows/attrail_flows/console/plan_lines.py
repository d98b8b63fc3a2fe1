"""Plan: the sizes an audit needs, in sentences."""

from collections.abc import Iterator

from attrail_explainers.errors import ConfigError
from attrail_monitoring.inference import power as sizes
from attrail_monitoring.inference.prediction_bound import FEWEST


def plan_lines(
    effect: float | None,
    sd: float,
    shift: float | None,
    images: int | None,
    retrains: int | None,
    alpha: float,
    power: float,
) -> Iterator[str]:
    """One sentence for each question that was asked; ConfigError when none was, or when there is no answer.

    ``alpha`` is each hypothesis's own level. ``effect`` and ``sd`` are about images (a paired t-test), ``shift`` about
    retrains (the floor's t-prediction bound).
    """
    if effect is None and shift is None and images is None and retrains is None:
        raise ConfigError("nothing to plan for: give --effect, --shift, --images or --retrains")
    if retrains is not None and retrains < FEWEST:
        raise ConfigError(f"{retrains} reference retrains are no floor, whatever the shift: plan for {FEWEST} or more")
    level = f"at level {alpha:.4f} with power {power:.0%}"
    if effect is not None:
        needed = sizes.images_needed(effect, alpha, power, sd)
        yield f"a paired shift of {effect:g} (SD {sd:g}) needs {needed} images {level}"
    if images is not None:
        yield f"{images} images show a paired shift of {sizes.detectable_effect(images, alpha, power, sd):.3g} {level}"
    if shift is not None:
        found = sizes.retrains_needed(shift, alpha, power)
        yield f"a shift of {shift:g} retrain SDs needs {found} reference retrains {level}"
    if retrains is not None:
        yield (
            f"{retrains} reference retrains show a shift of {sizes.detectable_shift(retrains, alpha, power):.3g} "
            f"retrain SDs {level}"
        )
