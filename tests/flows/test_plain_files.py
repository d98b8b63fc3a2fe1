"""Files that are none: every command that reads or writes one says so in a sentence, and waits for nobody."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from attrail_explainers.errors import ConfigError, RegistryError, SliceError
from attrail_flows.cli import attrail
from attrail_flows.commands.gate import caution_of_gate
from attrail_flows.configuration import read_config
from attrail_flows.deployment.deployments import read_deployments
from attrail_flows.flow_runs.preconditions import require_output
from attrail_mlflow.gate.policy import read_gate_policy
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.signing.keys import new_key, passphrase_from_environment, read_signer
from attrail_mlflow.signing.trusted_keys import read_trusted_keys
from attrail_monitoring.slices.slice_table import read_slice_table

GOLDEN = Path(__file__).parents[1] / "golden/v1"
WAITING = 30  # seconds until a test that hangs fails
VERIFY = "from click.testing import CliRunner; from attrail_flows.commands.trail import verify; import sys\n" + (
    "for each in sys.argv[1:]: done = CliRunner().invoke(verify, [each]); print(done.exit_code, repr(done.exception), "
    "done.output.strip())"
)


@pytest.fixture
def odd(tmp_path: Path) -> dict[str, Path]:
    """Files that are no evidence, by what they are."""
    found = {name: tmp_path / name for name in ("pipe", "socket", "folder", "empty", "cut.zip", "cut.jsonl")}
    os.mkfifo(found["pipe"])
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(found["socket"]))
    found["folder"].mkdir()
    found["empty"].touch()
    found["cut.zip"].write_bytes((GOLDEN / "bundle.zip").read_bytes()[:2000])
    found["cut.jsonl"].write_bytes((GOLDEN / "journal.jsonl").read_bytes()[:-200])
    return found | {"device": Path("/dev/zero")}


def test_verify_says_what_it_was_given(odd: dict[str, Path]) -> None:
    command = [sys.executable, "-c", VERIFY, *map(str, odd.values())]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=WAITING)
    said = dict(zip(odd, done.stdout.splitlines(), strict=True))
    assert "it is a named pipe, a plain file was expected" in said["pipe"]
    assert "it is a device, a plain file was expected" in said["device"]
    assert "socket cannot be read" in said["socket"]
    assert "manifest.json is missing" in said["folder"]
    assert "neither a bundle nor a journal" in said["empty"]
    assert "WRONG" in said["cut.zip"]
    assert "is torn" in said["cut.jsonl"]


@pytest.mark.timeout(WAITING)
@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "device"])
def test_whatever_is_read_must_be_a_plain_file(kind: str, odd: dict[str, Path]) -> None:
    path = odd[kind]
    for read in (
        read_config,
        read_gate_policy,
        read_trusted_keys,
        read_deployments,
        read_signer,
        lambda each: passphrase_from_environment({"ATTRAIL_SIGNING_PASSPHRASE_FILE": str(each)}),
    ):
        with pytest.raises(ConfigError, match=path.name) as raised:
            read(path)
        assert "\n" not in str(raised.value)


@pytest.mark.timeout(WAITING)
@pytest.mark.parametrize("kind", [".csv", ".parquet"])
def test_a_slice_is_a_plain_file(kind: str, odd: dict[str, Path]) -> None:
    pipe = odd["pipe"].with_suffix(kind)
    os.mkfifo(pipe)
    with pytest.raises(SliceError, match="it is a named pipe, a plain file was expected"):
        read_slice_table("v", pipe)


@pytest.mark.timeout(WAITING)
def test_a_registry_is_a_database(odd: dict[str, Path]) -> None:
    with pytest.raises(RegistryError, match="it is a named pipe, a plain file was expected"):
        Registry(f"sqlite:///{odd['pipe']}")
    with pytest.raises(RegistryError, match="the file is no SQLite database"):
        Registry(f"sqlite:///{odd['cut.jsonl']}")


@pytest.mark.timeout(WAITING)
def test_the_webhooks_secret_is_a_plain_file(odd: dict[str, Path]) -> None:
    words = ["serve", "--deployment", "audit/nightly", "--secret-file", str(odd["pipe"])]
    assert "it is a named pipe" in str(CliRunner().invoke(attrail, words).exception)


def test_a_verdict_is_not_written_where_nobody_may_read_it(odd: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="is a pipe or a socket"):
        require_output(odd["pipe"])
    require_output(odd["empty"])
    require_output(Path("/dev/null"))
    require_output(odd["empty"].with_name("new.json"))


def test_a_key_that_the_gate_does_not_trust_is_said_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("audit", "other"):
        new_key(tmp_path / name)
    shown = CliRunner().invoke(attrail, ["keys", "show", str(tmp_path / "audit.pub"), "--may", "verdict"])
    (tmp_path / "gate.toml").write_text(f'aliases = ["champion"]\n{shown.output}')
    monkeypatch.setenv("ATTRAIL_GATE_POLICY", str(tmp_path / "gate.toml"))
    said = {}
    for name, kind in (("audit", "verdict"), ("audit", "baseline"), ("other", "verdict")):
        monkeypatch.setenv("ATTRAIL_SIGNING_KEY", str(tmp_path / name))
        caution_of_gate(kind)
        said[name, kind] = capsys.readouterr().err
    assert not said["audit", "verdict"]
    assert "may not sign a baseline: the policy trusts it for verdict alone" in said["audit", "baseline"]
    assert "may not sign a verdict: the policy does not trust it" in said["other", "verdict"]
