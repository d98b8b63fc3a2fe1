"""The headline: what the first lines of the report need to know about the whole audit."""

from dataclasses import dataclass

from attrail_monitoring.audit_record import AuditRecord
from attrail_monitoring.floor import NoiseFloor


@dataclass(frozen=True)
class Headline:
    """``images`` over all slices; ``floor`` the weakest under a primary finding; ``bounded`` when each has a bound."""

    images: int
    floor: NoiseFloor
    bounded: bool


def headline_of(record: AuditRecord) -> Headline:
    primary = [finding for finding in record.report.findings if finding.measurement.primary]
    floors = [finding.measurement.floor for finding in primary]
    return Headline(
        images=sum(each.images for each in record.slices),
        floor=min(floors, key=lambda floor: len(floor.distances), default=NoiseFloor()),
        bounded=bool(primary) and all(finding.bound is not None for finding in primary),
    )
