"""The gate's policy file: what it protects, and that nothing wrong in it is taken for something right."""

from datetime import timedelta
from pathlib import Path

import pytest
from gate_client import DRIFT_POLICY, SLICE, write_policy
from hypothesis import given
from hypothesis import strategies as st

from attrail_explainers.errors import ConfigError
from attrail_mlflow.gate.policy import GatePolicy, policy_from_environment, read_gate_policy
from attrail_mlflow.signing.trusted_keys import TrustedKeys

PLAIN = GatePolicy(TrustedKeys())


def test_a_policy_is_read(tmp_path: Path) -> None:
    path, keys = write_policy(tmp_path / "policy", 'auditors = ["nightly"]\nactor_header = "X-Forwarded-User"')
    found = read_gate_policy(path)
    assert (found.aliases, found.stages) == (("champion", "production"), ("Production",))
    assert (found.max_age, found.policies, found.slices) == (timedelta(days=30), {DRIFT_POLICY}, {SLICE})
    assert (found.auditors, found.actor_header) == ({"nightly"}, "X-Forwarded-User")
    assert found.document()["journal_key"] == keys.gate.public_key.keyid
    assert {each.owner for each in found.trusted} == {"auditor", "manager", "exporter", "gate"}


def test_a_client_needs_no_private_key(tmp_path: Path) -> None:
    path, _ = write_policy(tmp_path / "policy")
    (tmp_path / "policy" / "gate").unlink()
    assert read_gate_policy(path, serving=False).journal_signer is None
    with pytest.raises(ConfigError, match=r"signing key .* cannot be read"):
        read_gate_policy(path)


def test_the_digest_changes_with_everything_in_it(tmp_path: Path) -> None:
    digests = {
        read_gate_policy(write_policy(tmp_path / str(number), more)[0]).digest
        for number, more in enumerate(["", 'aliases = ["champion"]', "stages = []", 'auditors = ["a"]'])
    }
    assert len(digests) == 4
    keys = TrustedKeys()
    ages = {GatePolicy(keys, max_age=None if days is None else timedelta(days=days)).digest for days in (None, 0, 1)}
    assert len(ages) == 3


def test_the_digest_does_not_change_with_how_it_is_written(tmp_path: Path) -> None:
    path, _ = write_policy(tmp_path / "policy", 'aliases = ["a", "b"]')
    before = read_gate_policy(path).digest
    head, *keys = path.read_text().replace('["a", "b"]', '["b",  "a"]').split("[[key]]")
    path.write_text("# again\n" + "\n".join(reversed(head.splitlines())) + "".join(f"\n[[key]]{k}" for k in keys[::-1]))
    assert read_gate_policy(path).digest == before


def test_a_key_twice_is_refused(tmp_path: Path) -> None:
    path, _ = write_policy(tmp_path / "policy")
    _, first, *_ = path.read_text().split("[[key]]")
    path.write_text(f"{path.read_text()}\n[[key]]{first.replace('baseline', 'waiver')}")
    with pytest.raises(ConfigError, match="stands there 2 times: give it one entry"):
        read_gate_policy(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "trusts no"),
        ("aliases = ", "Invalid value"),
        ('alias = ["champion"]', "unknown entry 'alias': known are"),
        ('aliases = "champion"', "aliases: expected a list"),
        ('aliases = ["champion", "Champion"]', "'Champion' and 'champion' are the same name twice"),
        ("aliases = []\nstages = []", "protects neither an alias nor a stage"),
        ('stages = ["Prod"]', "unknown stage 'Prod': known are Archived, Production, Staging"),
        ('policies = ["abc"]', "policies\\[0\\]: expected sha256:"),
        ('stages = ["Production", "Archived"]', "Archived cannot be protected"),
        *((f'aliases = ["{each}"]', "can be no alias") for each in ("latest", "V2", " champion", "a b", "stage/x")),
        ("max_age_days = -1", "max_age_days: expected a whole number"),
        ("max_age_days = 10000000000", "expected at most 36500 days"),
        ('journal_key = "nowhere"', "nowhere cannot be read"),
        ("[[key]]\nid = 1", "key\\[0\\]"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str, tmp_path: Path) -> None:
    path, _ = write_policy(tmp_path / "policy")
    keys = path.read_text()[path.read_text().index("[[key]]") :] if text and "key]]" not in text else ""
    path.write_text(f"{text}\n{keys}")
    with pytest.raises(ConfigError, match=said) as raised:
        read_gate_policy(path)
    assert str(raised.value).startswith(f"gate policy {path}: ")


def test_a_server_without_a_policy_says_so() -> None:
    with pytest.raises(ConfigError, match="ATTRAIL_GATE_POLICY names no file"):
        policy_from_environment({})


@given(st.sampled_from(["champion", "production"]), st.data())
def test_a_protected_alias_is_protected_in_every_spelling(alias: str, data: st.DataObject) -> None:
    spellings = ([each, each.upper(), chr(ord(each) + 0xFEE0), f"{each}\u0301"] for each in alias)
    letters = [data.draw(st.sampled_from(each)) for each in spellings]
    around = data.draw(st.sampled_from(["", " ", "\n", "\u00a0"]))
    assert PLAIN.role_of_alias(around + "".join(letters) + around) == alias


@given(st.text(min_size=1))
def test_other_aliases_are_free(text: str) -> None:
    assert PLAIN.role_of_alias(f"x-{text}") is None
    assert PLAIN.role_of_stage(f"x-{text}") is None


def test_a_stage_is_no_alias() -> None:
    assert PLAIN.role_of_stage("pRODUCTION") == "stage/Production"
    assert PLAIN.role_of_alias("stage/Production") is None
