"""Does anybody notice? Every kind of change to bundles and journals, many times, and how many are detected.

``python tests/simulations/mutations.py [COUNT]`` makes COUNT (10,000) of them and prints a table, which goes into
mlflow_plugin/ATTACKS.md too when COUNT is 10,000 or more; and how long a journal of 1,000 records takes to verify.
``tests/mlflow_plugin/test_mutations.py`` runs the same on some hundreds.
"""

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from attrail_explainers.errors import EvidenceError
from attrail_mlflow.journal.file import JournalFile
from attrail_mlflow.journal.hash_chain import Event
from attrail_mlflow.journal.journal import Journal
from attrail_mlflow.signing.keys import new_key, read_signer, signer_pem
from attrail_mlflow.signing.kind import Kind
from attrail_mlflow.signing.trusted_keys import TrustedKey, TrustedKeys
from attrail_mlflow.trail.inspection import inspect_bundle, inspect_journal

sys.path.extend(str(Path(__file__).resolve().parents[1] / name) for name in ("simulations", "mlflow_plugin", "gate"))

from attack_page import put, software, table
from changes import Draw
from forgers import BundleForger, JournalForger
from small_audit import write_small

ABOUT = (
    "Bundles and journals, changed at random in every way there is, and whether `attrail verify` notices "
    "(`tests/simulations/mutations.py`)."
)


def forge(count: int, seed: int, folder: Path) -> dict[str, Counter[str]]:
    """Make ``count`` changes, spread over all kinds; per kind how many were "detected" and "missed"."""
    small = write_small(folder / "honest")
    head = small.journal.with_name(small.journal.name + ".head").read_bytes()
    bundles, journals = BundleForger(small.bundle.read_bytes()), JournalForger(small.journal.read_bytes(), head)
    kinds = [("bundle", name) for name in _kinds(bundles)] + [("journal", name) for name in _kinds(journals)]
    found: dict[str, Counter[str]] = {f"{what}, {name}": Counter() for what, name in kinds}
    for number in range(count):
        what, name = kinds[number % len(kinds)]
        draw = Draw(f"{seed} {number}")
        if what == "bundle":
            outcome = bundle_outcome(bundles, name, draw, small.trusted, folder)
        else:
            outcome = journal_outcome(journals, name, draw, small.trusted, folder)
        found[f"{what}, {name}"][outcome] += 1
    return found


def bundle_outcome(forger: BundleForger, name: str, draw: Draw, trusted: TrustedKeys, folder: Path) -> str:
    """Whether a changed bundle is detected; a change that changes nothing is made again."""
    forged = forger.bundle
    while forged == forger.bundle:
        forged = getattr(forger, name)(draw)
    path = folder / "forged.zip"
    path.write_bytes(forged)
    return outcome(lambda: inspect_bundle(path, trusted).signed)


def journal_outcome(forger: JournalForger, name: str, draw: Draw, trusted: TrustedKeys, folder: Path) -> str:
    """The same of a journal and its head."""
    forged = (forger.journal, forger.head)
    while forged == (forger.journal, forger.head):
        forged = getattr(forger, name)(draw)
    path = folder / "forged.jsonl"
    path.write_bytes(forged[0])
    path.with_name("forged.jsonl.head").write_bytes(forged[1])
    return outcome(lambda: inspect_journal(path, trusted).signed)


def outcome(look: Callable[[], bool]) -> str:
    """Detected means an EvidenceError, or evidence that is not signed; any other error is a defect and is raised."""
    try:
        return "missed" if look() else "detected"
    except EvidenceError:
        return "detected"


def _kinds(forger: object) -> list[str]:
    return [name for name in sorted(vars(type(forger))) if name.startswith(("in_", "with_"))]


def verified_in(records: int, folder: Path) -> float:
    """Seconds that it takes to verify a signed journal with so many records."""
    new_key(folder / "key")
    signer = read_signer(folder / "key")
    journal = Journal(JournalFile(folder / "long.jsonl"), signer)
    for number in range(records - 1):  # and the record it starts with
        journal.append(Event.AUDIT, "nightly", {"run_id": f"{number:032x}", "verdict": "PASS"})
    trusted = TrustedKeys.of([TrustedKey(signer_pem(signer), frozenset({Kind.JOURNAL}), "nightly")])
    began = time.monotonic()
    found = inspect_journal(folder / "long.jsonl", trusted)
    took = time.monotonic() - began
    if not found.signed:
        raise EvidenceError("the journal that was just written is not signed")
    return took


def main(count: int) -> int:
    """Print the table; the number of changes that nobody noticed."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        found = forge(count, 0, Path(scratch))
        seconds = verified_in(1000, Path(scratch))
    missed = sum(outcomes["missed"] for outcomes in found.values())
    made = sum(outcomes.total() for outcomes in found.values())
    rows = [(kind, each.total(), each["detected"], each["missed"]) for kind, each in found.items()]
    counts = table(["change", "made", "detected", "missed"], [*rows, ("all", made, made - missed, missed)])
    text = f"{ABOUT}\n\n{counts}\n\nA signed journal of 1,000 records is verified in {seconds:.2f} s."
    print(text, f"\n{time.monotonic() - began:.0f} s")
    if count >= 10_000:
        put({"Changed evidence": f"{text} {software()}"})
    return missed


if __name__ == "__main__":
    sys.exit(min(1, main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)))
