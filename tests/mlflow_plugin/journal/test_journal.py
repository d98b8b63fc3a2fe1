"""The journal: appended, chained, signed; what a crash leaves is set aside, what a hand changes is seen."""

import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_audit import NOW, signer_of, trusted_of
from sqlalchemy import create_engine, text

from attrail_explainers.errors import ConfigError, EvidenceError, RecordError
from attrail_mlflow.journal.file import JournalFile
from attrail_mlflow.journal.hash_chain import BEGINNING, Event, JournalRecord, checked, record_at
from attrail_mlflow.journal.journal import Journal, Store, read_journal, require_head
from attrail_mlflow.journal.location import kept_store_at, shown, store_at
from attrail_mlflow.journal.table import JournalTable
from attrail_mlflow.signing.kind import Kind
from attrail_mlflow.trail.inspection import inspect_journal, inspect_store

SIGNER = signer_of("auditor")
TRUSTED = trusted_of(SIGNER)
BODIES = st.dictionaries(st.text(max_size=3), st.integers(-9, 9) | st.text(max_size=3) | st.floats(0, 1), max_size=3)


def chain(bodies: list[dict]) -> list[JournalRecord]:
    records = [record_at(BEGINNING, Event.START, "me", {}, NOW)]
    for body in bodies:
        records.append(record_at(records[-1].next, Event.AUDIT, "me", body, NOW))
    return records


def filled(store: Store, count: int = 5) -> Store:
    journal = Journal(store, SIGNER)
    for number in range(count):
        journal.append(Event.AUDIT, "me", {"number": number}, NOW)
    return store


@pytest.fixture
def file(tmp_path: Path) -> JournalFile:
    store = JournalFile(tmp_path / "journal.jsonl")
    filled(store)
    return store


@pytest.fixture
def table(tmp_path: Path) -> JournalTable:
    store = JournalTable(create_engine(f"sqlite:///{tmp_path / 'journal.db'}"))
    store.create()
    filled(store)
    return store


def head_path(file: JournalFile) -> Path:
    return file.path.with_name(file.path.name + ".head")


@given(st.lists(BODIES, max_size=6))
def test_a_chain_is_read_back(bodies: list[dict]) -> None:
    records = chain(bodies)
    assert list(checked(record.line for record in records)) == records
    assert [record.body for record in records[1:]] == bodies


@given(st.lists(BODIES, min_size=1, max_size=6), st.data())
def test_any_other_order_choice_or_repetition_is_no_chain(bodies: list[dict], data: st.DataObject) -> None:
    lines = [record.line for record in chain(bodies)]
    other = data.draw(st.lists(st.sampled_from(lines), max_size=8).filter(lambda each: each != lines[: len(each)]))
    with pytest.raises(EvidenceError, match=r"line \d+"):
        list(checked(other))


def test_no_value_can_change_even_in_the_last_record() -> None:
    records = chain([{"a": 1}, {"a": 2}])
    for row in range(3):
        lines = [record.line for record in records]
        lines[row] = lines[row].replace(b'"actor":"me"', b'"actor":"you"')
        with pytest.raises(EvidenceError, match=f"line {row + 1}: record {row} was altered"):
            list(checked(lines))


def test_a_record_that_was_hashed_anew_does_not_fit_the_next() -> None:
    records = chain([{"a": 1}, {"a": 2}])
    records[1] = replace(records[1], body={"a": 9})
    with pytest.raises(EvidenceError, match="line 3: record 2 does not follow"):
        list(checked(record.line for record in records))


def test_a_journal_starts_once() -> None:
    first = record_at(BEGINNING, Event.AUDIT, "me", {}, NOW)
    second = record_at(chain([])[0].next, Event.START, "me", {}, NOW)
    for lines in ([first.line], [chain([])[0].line, second.line]):
        with pytest.raises(EvidenceError, match="must be a start record"):
            list(checked(lines))


def test_a_piece_of_a_chain_is_one_too_where_that_is_asked() -> None:
    records = chain([{"a": 1}, {"a": 2}, {"a": 3}])
    piece = [record.line for record in records[2:]]
    assert list(checked(piece, first=None)) == records[2:]
    with pytest.raises(EvidenceError, match="record 0 was expected"):
        list(checked(piece))


def test_file_and_table_hold_the_same_lines(file: JournalFile, table: JournalTable) -> None:
    assert list(file.lines()) == list(table.lines())
    assert file.head() == table.head() == list(file.lines())[-1]
    assert [record.event for record in read_journal(table, TRUSTED)] == [Event.START, *[Event.AUDIT] * 5]


@pytest.mark.parametrize("number", range(1, 6))
def test_a_journal_that_was_cut_is_seen_and_not_written_on(file: JournalFile, number: int) -> None:
    lines = file.path.read_bytes().splitlines(keepends=True)
    file.path.write_bytes(b"".join(lines[:number]))
    with pytest.raises(EvidenceError, match=f"ends with record {number - 1}, its head is record 5"):
        list(read_journal(file, TRUSTED))
    with pytest.raises(RecordError, match="damaged"):
        Journal(file, SIGNER).append(Event.AUDIT, "me", {})


def test_an_empty_or_vanished_journal_is_seen(file: JournalFile) -> None:
    file.path.write_bytes(b"")
    with pytest.raises(RecordError, match="was cut"):
        Journal(file, SIGNER).append(Event.AUDIT, "me", {})
    file.path.unlink()
    with pytest.raises(EvidenceError, match="cannot be read"):
        inspect_journal(file.path, TRUSTED)


def test_a_cut_table_is_seen(table: JournalTable) -> None:
    with table.engine.begin() as connection:
        connection.execute(text("DELETE FROM attrail_journal WHERE record >= 4"))
    with pytest.raises(EvidenceError, match="was cut"):
        list(read_journal(table, TRUSTED))
    with pytest.raises(RecordError, match="damaged"):
        Journal(table, SIGNER).append(Event.AUDIT, "me", {})
    with table.engine.begin() as connection:
        connection.execute(text("DELETE FROM attrail_journal_head"))
    with pytest.raises(RecordError, match="head row is gone"):
        Journal(table, SIGNER).append(Event.AUDIT, "me", {})


def test_a_missing_head_is_seen(file: JournalFile) -> None:
    head_path(file).unlink()
    for act in (lambda: list(read_journal(file, None)), lambda: Journal(file, SIGNER).append(Event.AUDIT, "me", {})):
        with pytest.raises((EvidenceError, RecordError), match="head is missing"):
            act()


def test_a_head_that_a_crash_left_behind_is_caught_up_with(file: JournalFile) -> None:
    for number in (4, 3):
        head_path(file).write_bytes(list(file.lines())[number])
        assert len(list(read_journal(file, TRUSTED))) >= 6
        Journal(file, SIGNER).append(Event.AUDIT, "me", {})
        assert file.head() == list(file.lines())[-1]


@given(st.integers(0, 5), st.integers(0, 5))
def test_a_head_fits_just_the_journals_that_hold_it(index: int, last: int) -> None:
    records = chain([{"n": number} for number in range(5)])
    other = chain([{"n": -1}] * 5)
    require = lambda head: require_head(head.line, reversed(records[: last + 1]))  # noqa: E731
    if index <= last:
        require(records[index])
    else:
        with pytest.raises(EvidenceError, match="cut"):
            require(records[index])
    if 0 < index <= last:
        with pytest.raises(EvidenceError, match="not the one"):
            require(other[index])


def test_whatever_a_crash_leaves_of_the_last_line_is_kept_and_told(tmp_path: Path) -> None:
    lines = list(filled(JournalFile(tmp_path / "whole.jsonl"), 3).lines())
    for length in {1, 2, 17, len(lines[-1]) // 2, len(lines[-1]) - 1, len(lines[-1])}:
        file = JournalFile(tmp_path / str(length) / "journal.jsonl")
        file.path.parent.mkdir()
        torn = lines[-1][:length]
        file.path.write_bytes(b"".join(line + b"\n" for line in lines[:-1]) + torn)
        head_path(file).write_bytes(lines[-2])
        with pytest.raises(EvidenceError, match="line 4 is torn"):
            list(read_journal(file, TRUSTED))
        Journal(file, SIGNER).append(Event.AUDIT, "me", {"after": "the crash"})
        *_, told, last = read_journal(file, TRUSTED)
        assert (told.event, told.body["bytes"], last.body) == (Event.TORN, length, {"after": "the crash"})
        aside = file.path.with_name(told.body["file"])
        assert aside.read_bytes() == torn
        assert "torn" in " ".join(inspect_journal(file.path, TRUSTED).facts)
        aside.write_bytes(torn + b"x")
        with pytest.raises(EvidenceError, match="gone or altered"):
            inspect_journal(file.path, TRUSTED)


def test_a_line_torn_by_hand_is_no_crash(file: JournalFile) -> None:
    """The head was written after the whole line: who cuts the line afterwards is seen, and nothing is set aside."""
    file.path.write_bytes(file.path.read_bytes()[:-10])
    with pytest.raises(RecordError, match="was cut"):
        Journal(file, SIGNER).append(Event.AUDIT, "me", {})
    assert not list(file.path.parent.glob("*.torn-*"))


def test_signatures_are_asked_for(tmp_path: Path, file: JournalFile) -> None:
    other = signer_of("somebody else")
    with pytest.raises(EvidenceError, match=r"record 0: its signer \S+ is not trusted"):
        list(read_journal(file, trusted_of(other)))
    with pytest.raises(EvidenceError, match="not trusted"):
        list(read_journal(file, trusted_of(SIGNER, may=frozenset({Kind.VERDICT}))))
    for journal in (Journal(file), Journal(file, other)):
        with pytest.raises(RecordError, match="not trusted"):
            journal.append(Event.AUDIT, "me", {})
    Journal(file, other, TRUSTED).append(Event.AUDIT, "me", {})
    assert len(list(read_journal(file, trusted_of(SIGNER, other)))) == 7
    unsigned = JournalFile(tmp_path / "unsigned.jsonl")
    Journal(unsigned).append(Event.AUDIT, "me", {})
    assert len(list(read_journal(unsigned, None))) == 2
    assert not inspect_journal(unsigned.path, None).signed
    with pytest.raises(EvidenceError, match="not signed"):
        inspect_journal(unsigned.path, TRUSTED)
    with pytest.raises(RecordError, match="not signed"):
        Journal(unsigned, SIGNER).append(Event.AUDIT, "me", {})


@pytest.mark.parametrize("key", ["index", "time", "event", "actor", "body", "previous", "hash", "signature"])
def test_no_field_of_a_record_can_change(file: JournalFile, key: str) -> None:
    lines = file.path.read_text().splitlines()
    lines[3] = lines[3].replace(f'"{key}":', f'"{key}x":', 1)
    file.path.write_text("\n".join(lines) + "\n")
    with pytest.raises(EvidenceError, match="line 4"):
        list(read_journal(file, None))


def test_a_body_must_be_json(file: JournalFile) -> None:
    for body in ({"a": float("nan")}, {"a": 2**60}, {"a": object()}):
        with pytest.raises(RecordError, match="cannot be written"):
            Journal(file, SIGNER).append(Event.AUDIT, "me", body)
    assert len(list(read_journal(file, TRUSTED))) == 6


def test_a_damaged_journal_is_kept_when_a_new_one_begins(file: JournalFile, tmp_path: Path) -> None:
    content = file.path.read_bytes()
    with file.begun_anew() as (fresh, retired):
        Journal(fresh, SIGNER).append(Event.RESTART, "me", retired | {"reason": "a disk failed"})
    assert file.path.with_name(retired["file"]).read_bytes() == content
    assert [record.event for record in read_journal(file, TRUSTED)] == [Event.START, Event.RESTART]
    assert "a disk failed" in " ".join(inspect_journal(file.path, TRUSTED).facts)
    assert not list(file.path.parent.glob("*/"))
    with pytest.raises(ConfigError, match="there is no journal"), JournalFile(tmp_path / "none.jsonl").begun_anew():
        pass


def test_a_journal_stays_when_the_new_one_cannot_be_written(file: JournalFile) -> None:
    before = {path.name: path.read_bytes() for path in file.path.parent.iterdir()}
    with pytest.raises(RecordError, match="cannot be written"), file.begun_anew() as (fresh, retired):
        Journal(fresh, SIGNER).append(Event.RESTART, "me", retired | {"reason": float("nan")})
    assert {path.name: path.read_bytes() for path in file.path.parent.iterdir()} == before
    assert len(list(read_journal(file, TRUSTED))) == 6


@pytest.mark.parametrize("moves", range(1, 4))
def test_a_crash_while_a_journal_gives_way_is_seen(
    file: JournalFile, moves: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, left = Path.rename, iter(range(moves))

    def crash_later(path: Path, target: Path) -> Path:
        if next(left, None) is None:
            raise OSError("the machine stopped")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", crash_later)
    with pytest.raises(RecordError, match="the machine stopped"), file.begun_anew() as (fresh, retired):
        Journal(fresh, SIGNER).append(Event.RESTART, "me", retired)
    with pytest.raises(RecordError, match="see attrail journal restart"):
        Journal(file, SIGNER).append(Event.AUDIT, "me", {})


def _append(path: str, url: str, name: str, count: int) -> None:
    store = JournalTable(create_engine(url)) if url else JournalFile(Path(path))
    journal = Journal(store, signer_of("auditor"))
    for number in range(count):
        journal.append(Event.AUDIT, name, {"number": number})


@pytest.mark.parametrize("kind", ["file", "table"])
def test_processes_append_at_once_and_nothing_is_lost(tmp_path: Path, kind: str) -> None:
    url = f"sqlite:///{tmp_path / 'journal.db'}" if kind == "table" else ""
    store: Store = JournalFile(tmp_path / "journal.jsonl")
    if url:
        store = JournalTable(create_engine(url))
        store.create()
    context = multiprocessing.get_context("spawn")
    arguments = [(str(tmp_path / "journal.jsonl"), url, f"process {number}", 8) for number in range(3)]
    processes = [context.Process(target=_append, args=each) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    records = list(read_journal(store, TRUSTED))
    assert len(records) == 1 + 3 * 8
    for number in range(3):
        mine = [each.body["number"] for each in records[1:] if each.actor == f"process {number}"]
        assert mine == list(range(8))


FOREVER = """
import sys
from pathlib import Path
sys.path.append(sys.argv[1])
from small_audit import signer_of
from attrail_mlflow.journal.hash_chain import Event
from attrail_mlflow.journal.journal import Journal
from attrail_mlflow.journal.file import JournalFile
from attrail_mlflow.journal.location import shown, store_at
journal = Journal(JournalFile(Path(sys.argv[2])), signer_of("auditor"))
number = int(sys.argv[3])
while True:
    journal.append(Event.AUDIT, "me", {"number": number, "padding": "x" * 5000})
    print(number, flush=True)
    number += 1
"""


def test_killed_writers_lose_nothing_they_said_they_wrote(tmp_path: Path) -> None:
    file, said = JournalFile(tmp_path / "journal.jsonl"), 0
    for delay in (0.02, 0.05, 0.011):
        process = subprocess.Popen(
            [sys.executable, "-c", FOREVER, str(Path(__file__).parents[1]), str(file.path), str(said)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        first = int(process.stdout.readline())
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        printed = [first, *map(int, process.stdout.read().split())]
        process.wait()
        said = max(printed) + 1
    Journal(file, SIGNER).append(Event.AUDIT, "me", {"number": said})
    records = [record for record in read_journal(file, TRUSTED) if record.event == Event.AUDIT]
    assert set(range(said + 1)) <= {record.body["number"] for record in records}
    assert inspect_journal(file.path, TRUSTED).signed


def test_a_thousand_records_are_verified_in_seconds(tmp_path: Path) -> None:
    store = JournalTable(create_engine("sqlite://"))
    store.create()
    journal = Journal(store, SIGNER)
    for number in range(999):
        digests = [f"sha256:{number:064x}"] * 5
        journal.append(Event.AUDIT, "me", {"number": number, "verdict": "PASS", "digests": digests}, NOW)
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in store.lines()))
    head_path(JournalFile(path)).write_bytes(store.head() or b"")
    began = time.process_time()
    assert "1000 records" in inspect_journal(path, TRUSTED).facts[0]
    assert time.process_time() - began < 5


def records_of(path: Path) -> Iterator[dict]:
    return map(json.loads, itertools.takewhile(bool, path.read_bytes().splitlines()))


def test_the_lines_are_plain_json(file: JournalFile) -> None:
    assert [each["index"] for each in records_of(file.path)] == list(range(6))
    assert os.path.getsize(file.path) == sum(len(line) + 1 for line in file.lines())


def test_a_place_is_a_file_or_a_database(table: JournalTable, file: JournalFile) -> None:
    address = str(table.engine.url)
    assert list(store_at(address).lines()) == list(store_at(str(file.path)).lines())
    assert inspect_store(store_at(address), TRUSTED).signed
    assert shown("postgresql://me:secret@host/mlflow") == "postgresql://me:***@host/mlflow"
    for place in ("nothing://host/mlflow", "postgresql://host:port/mlflow"):
        for opened in (store_at, kept_store_at):
            with pytest.raises(ConfigError, match="journal"):
                opened(place)


def test_who_reads_a_journal_makes_no_database(tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path}/journal.db"
    with pytest.raises(ConfigError, match=r"journal\.db: .*No such file"):
        kept_store_at(place)
    assert not (tmp_path / "journal.db").exists()
    JournalTable(create_engine(place)).create()
    filled(kept_store_at(place))
    assert inspect_store(kept_store_at(place), TRUSTED).signed
