"""Which earlier versions somebody chose as the noise floor of a version, which carries the choice as a tag.

MLflow keeps 100,000 characters in a tag of a version, Databricks 5,000. A longer choice lies in a run, and the tag says
in which one, with its digest. The tag is no proof: whoever may tag a version can write one. What an audit made of it is
in its record, which is signed; who chose is in the journal, where there is one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from mlflow.entities.model_registry import ModelVersion
from mlflow.utils.credentials import read_mlflow_creds

from attrail_explainers.digest import digest_of_bytes
from attrail_explainers.errors import EvidenceError
from attrail_mlflow.history.proposal import Considered, Proposal
from attrail_mlflow.journal.hash_chain import Event
from attrail_mlflow.journal.journal import this_actor
from attrail_mlflow.registry.fetching import fetched
from attrail_mlflow.registry.registry import RegisteredVersion, Registry
from attrail_mlflow.registry.tags import COMPLETE_TAG, FLOOR_TAG
from attrail_mlflow.runs.audit_run import ROOT, audit_run
from attrail_mlflow.signing.canonical_json import decode_object, encode
from attrail_mlflow.signing.fields import Reader, listed, mapped, moment, optional, plain, with_fields, wrong
from attrail_mlflow.signing.fields import digest as digest_
from attrail_mlflow.signing.fields import text as text_
from attrail_mlflow.trail.attestation import Trail

FORMAT = "attrail.floor/1"
FILE = "floor.json"
ANEW = "choose anew with attrail floor --accept or --versions"
FITS = 5000  # characters: what every MLflow keeps


@dataclass(frozen=True)
class ChosenVersion:
    """A version of the floor: the digest of its files when it was chosen (``folder_digest``), and why it was."""

    version: str
    files: str
    because: str


@dataclass(frozen=True)
class FloorChoice:
    """Who chose which versions as the floor of ``reference`` (a models:/ URI) for a declared change, when and why.

    ``left`` says of every other version why it was left, ``why`` what the person said.
    """

    reference: str
    change: str
    by: str
    time: datetime
    versions: tuple[ChosenVersion, ...]
    left: Mapping[str, str]
    why: str | None = None

    def document(self) -> dict[str, Any]:
        """The choice as plain values."""
        found: dict[str, Any] = plain({"format": FORMAT, **asdict(self)})
        return found


def choice_of(
    proposal: Proposal, chosen: Sequence[Considered], change: str, by: str, why: str | None = None
) -> FloorChoice:
    """The choice of some versions of a proposal, by somebody, now."""
    reference, numbers = proposal.reference, {each.version for each in chosen}
    return FloorChoice(
        f"models:/{reference.name}/{reference.version}",
        change,
        by,
        datetime.now(UTC).replace(microsecond=0),
        tuple(ChosenVersion(each.version, each.files, _because(each)) for each in chosen),
        {each.version: each.against or "not chosen" for each in proposal.considered if each.version not in numbers},
        why,
    )


def who() -> str:
    """Who chooses: the name that MLflow knows, else who this process is in journals."""
    return read_mlflow_creds().username or this_actor()


def keep_choice(registry: Registry, experiment: str, reference: ModelVersion, choice: FloorChoice) -> None:
    """Let the reference carry a choice, in place of one that it may have; the journal, if there is one, has it before.

    Raises RegistryError when MLflow refuses or stays away, ConfigError or RecordError when the journal is of no use.
    """
    text, label = encode(choice.document()), f"{reference.name}/{reference.version}"
    numbers, digest = [each.version for each in choice.versions], digest_of_bytes(text)
    trail = Trail.from_environment()
    if len(text) > FITS:
        run_id = _kept(registry, experiment, label, text)
        text = encode({"format": FORMAT, "run_id": run_id, "digest": digest})
    model = {"name": reference.name, "version": str(reference.version)}
    trail.note(Event.FLOOR, {"model": model, "versions": numbers, "by": choice.by, "choice_digest": digest})
    with registry.asking(f"the floor of {label} cannot be kept with it"):
        registry.client.set_model_version_tag(reference.name, reference.version, FLOOR_TAG, text.decode())


def find_choice(registry: Registry, reference: ModelVersion) -> FloorChoice | None:
    """The choice that a version carries, None where it carries none.

    Raises EvidenceError when it cannot be read or is about another version, RegistryError when MLflow cannot be asked.
    """
    text, label = reference.tags.get(FLOOR_TAG), f"{reference.name}/{reference.version}"
    if text is None:
        return None
    what = f"tag {FLOOR_TAG} of {label}"
    try:
        document = decode_object(text.encode())
        if "run_id" in document:
            document = decode_object(_fetched(registry, label, _POINTER(document, what)))
        choice = _CHOICE(document, what)
        if choice.reference != f"models:/{label}":
            raise EvidenceError(f"{what} is about {choice.reference}")
    except ValueError as error:
        raise EvidenceError(f"{what}: {error}; {ANEW}") from error
    except EvidenceError as error:
        raise EvidenceError(f"{error}; {ANEW}") from error
    return choice


def require_files(registry: Registry, version: RegisteredVersion, choice: FloorChoice, *, allow_pickle: bool) -> None:
    """Raise EvidenceError when a chosen version has other files than when it was chosen."""
    known = {each.version: each.files for each in choice.versions}
    with registry.files(version, allow_pickle=allow_pickle) as (_, digest):
        if known[version.version] != digest:
            raise EvidenceError(
                f"the files of {version.label} are not those that {choice.by} chose for the floor of "
                f"{choice.reference} on {choice.time:%Y-%m-%d}; {ANEW}"
            )


def _because(chosen: Considered) -> str:
    """Why a version was chosen, or what spoke against it and was set aside."""
    return f"chosen although {chosen.against}" if chosen.left else chosen.why


def _kept(registry: Registry, experiment: str, label: str, text: bytes) -> str:
    with audit_run(registry, experiment, f"floor of {label}: chosen history") as run, run.keeping():
        registry.client.log_text(run.run_id, text.decode(), f"{ROOT}/{FILE}")
        registry.client.set_tag(run.run_id, COMPLETE_TAG, "true")
    return run.run_id


def _fetched(registry: Registry, label: str, pointer: Mapping[str, str]) -> bytes:
    run_id = pointer["run_id"]
    with (
        registry.asking(f"the floor that was chosen for {label} cannot be read from run {run_id}"),
        fetched(f"runs:/{run_id}/{ROOT}/{FILE}") as file,
    ):
        text = file.read_bytes()
    if digest_of_bytes(text) != pointer["digest"]:
        raise EvidenceError(f"run {run_id} holds another floor of {label} than was chosen")
    return text


def _format(value: Any, where: str) -> str:
    if value != FORMAT:
        raise wrong(where, FORMAT, value)
    return FORMAT


def _made(format: str, **facts: Any) -> FloorChoice:
    return FloorChoice(**facts)


_CHOSEN: Reader[ChosenVersion] = with_fields({"version": text_, "files": digest_, "because": text_}, ChosenVersion)
_CHOICE: Reader[FloorChoice] = with_fields(
    {
        "format": _format,
        "reference": text_,
        "change": text_,
        "by": text_,
        "time": moment,
        "versions": listed(_CHOSEN),
        "left": mapped(text_),
        "why": optional(text_),
    },
    _made,
)
_POINTER: Reader[dict[str, str]] = with_fields({"format": _format, "run_id": text_, "digest": digest_}, dict)
