"""The report: self-contained, safe against hostile names, honest about scales and gaps."""

import itertools
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data
from sklearn.datasets import load_digits

from attrail_explainers.attributions import Attributions
from attrail_explainers.errors import RecordError
from attrail_explainers.slice import Preprocessing, Slice
from attrail_monitoring import Policy
from attrail_monitoring.audit_record import AuditRecord, CalibrationFacts, ModelFacts, PolicyFacts, SliceFacts
from attrail_monitoring.clusters.clusters import clusters_of
from attrail_monitoring.comparison import compare
from attrail_monitoring.expectations.rule_tables import rules_of, validate_measurements, with_rules
from attrail_monitoring.floor import factors
from attrail_monitoring.floor.calibration import Calibration, Rehearsal, calibrate
from attrail_monitoring.floor.decision_floors import DecisionFloor
from attrail_monitoring.floor.noise_floor import TIERS, NoiseFloor, Source
from attrail_monitoring.formatting import NOTHING, chance, flat, moment, number, percent, share, times
from attrail_monitoring.inference.e_process import EProcess
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.maps.strata import HEADLINES, OUTCOMES
from attrail_monitoring.maps.version_maps import VersionMaps
from attrail_monitoring.pictures.overlays import data_uri, fit, no_map, png
from attrail_monitoring.report import report as report_module
from attrail_monitoring.report.classes import SHOWN, classes_of
from attrail_monitoring.report.image_pairs import Sources
from attrail_monitoring.report.report import render_report, section_names
from attrail_monitoring.report.strategies import strategies_of
from attrail_monitoring.report.strip_plot import LEFT, RIGHT, axis_of, strip_of
from attrail_monitoring.verdict.agreement import Agreement
from attrail_monitoring.verdict.combination import combine
from attrail_monitoring.verdict.decision_measurement import DecisionMeasurement
from attrail_monitoring.verdict.findings import DecisionFinding, Finding, Verdict
from attrail_monitoring.verdict.looks import Look
from attrail_monitoring.verdict.measurement import Measurement
from attrail_monitoring.verdict.most_moved import most_moved
from attrail_monitoring.verdict.moved_images import MovedImages
from attrail_monitoring.verdict.sequence import Sequence, with_alarm

COUNT = 24
EVIL = "<script>alert('x')</script>"
EVIL_SAMPLE = '"><img src=x onerror=alert(1)>/\u202egnp.exe'


@dataclass
class Audit:
    """What ``render_report`` takes."""

    record: AuditRecord
    maps: dict[tuple[str, str, str], Attributions]
    slices: dict[str, Slice]

    def page(self) -> str:
        return render_report(self.record, self.maps, self.slices)


def digits_slice(name: str, samples: Mapping[int, str], classes: int = 10) -> Slice:
    digits = load_digits()
    images = (digits.images[:COUNT, None] / 8 - 1).astype(np.float32)
    ids = tuple(samples.get(row, f"scans/{row:03d}.png") for row in range(COUNT))
    preprocessing = Preprocessing((8, 8), (0.5,), (0.5,))
    return Slice(name, images, (digits.target[:COUNT] % classes).astype(np.int64), ids, preprocessing)


def maps_of(subjects: Slice, model: str, seed: int, explainer: str, centre: tuple[float, float], weight: float = 1.0):
    """Blobs of evidence about ``centre`` with noise of the model's own; shap's are signed."""
    noise = np.random.default_rng(seed)
    rows, columns = np.indices((8, 8))
    places = np.array(centre) + noise.normal(0, 0.7, (len(subjects), 2))
    far = (rows - places[:, :1, None]) ** 2 + (columns - places[:, 1:, None]) ** 2
    values = np.exp(-far / 4) - (0.2 if explainer == "shap" else 0.0)
    return Attributions(
        explainer=explainer,
        parameters={"seed": 0, "layer": "blocks.3"},
        values=(weight * values).astype(np.float32),
        targets=subjects.labels,
        sample_ids=subjects.sample_ids,
        slice_name=subjects.name,
        slice_digest=subjects.digest,
        model=model,
        weights_digest=f"sha256:{seed:064x}",
        diagnostics={"emulator_r2": np.full(len(subjects), 0.875)} if explainer == "shap" else {},
    )


EXPLAINERS = ("gradcam", "shap")
DIGEST, KEY = (f"sha256:{digit * 64}" for digit in "cd")


def make_audit(
    *,
    moved: bool = False,
    retrains: int = 5,
    name: str = "digits",
    samples: Mapping[int, str] | None = None,
    policy: Policy | None = None,
    source: Source = "retrains",
    kept: bool = False,
) -> Audit:
    """An audit of two explainers on one slice: a candidate whose evidence moved or did not.

    A ``kept`` one has what the flows add: who decided which image rightly, checked explainers, a calibration; its
    classes are two, so that each has images enough to be judged.
    """
    subjects = digits_slice("validation", samples or {}, classes=2 if kept else 10)
    policy = policy or Policy()
    seeds = {"1": 1, **{str(version): version for version in range(2, 2 + retrains)}, "7": 99}
    every = {
        version: versioned(subjects, f"{name}/{version}", seed, (1, 1) if moved and version == "7" else (4, 4), kept)
        for version, seed in seeds.items()
    }
    floor = [version for version in every if version not in ("1", "7")]
    facts = {
        version: ModelFacts(
            f"{name}/{version}",
            f"models:/{name}/{version}",
            each.maps[0].weights_digest,
            {"1": "reference", "7": "candidate"}.get(version, "floor"),
            version,
        )
        for version, each in every.items()
    }
    calibration = calibrate(
        every["1"],
        [every[version] for version in floor],
        policy.settings,
        source,
        rehearsal(subjects, name) if kept else None,
    )
    accuracy = {f"{name}/{version}": 0.9 + 0.005 * row for row, version in enumerate(every)}
    record = AuditRecord(
        change="retrain",
        reference=facts["1"],
        candidate=facts["7"],
        floor=tuple(facts[version] for version in floor),
        slices=(SliceFacts("validation", "scans.csv", subjects.digest, COUNT, accuracy, 3),),
        explainers=tuple({"name": each, "parameters": {"layer": "blocks.3"}} for each in EXPLAINERS),
        report=compare(every["1"], every["7"], calibration, policy),
        policy=asdict(policy),
        maps={
            f"validation/{maps.explainer}/{maps.model}": maps.digest for each in every.values() for maps in each.maps
        },
        environment={"python": "3.11.7", "torch": "2.15.0"},
        run={"run_id": "3f0c9b1e5d7a4c3f", "time": "2026-11-21T12:44:09+00:00"},
    )
    if kept:
        record = with_kept(record, calibration, most_moved(every["1"], every["7"], policy.settings))
        retrained = [every[version] for version in floor]
        record = replace(
            record,
            clusters=clusters_of(
                every["1"], every["7"], lambda subject: (each.of(subject) for each in retrained), policy.settings
            ),
        )
    maps = {
        ("validation", each.explainer, role): each
        for role, version in (("reference", "1"), ("candidate", "7"))
        for each in every[version].maps
    }
    return Audit(record, maps, {"validation": subjects})


def versioned(subjects: Slice, model: str, seed: int, centre: tuple[float, float], kept: bool) -> VersionMaps:
    """One version's maps; in kept audits each version decides one image wrongly."""
    maps = tuple(maps_of(subjects, model, seed, each, centre) for each in EXPLAINERS)
    return VersionMaps(maps, right(seed) if kept else {})


def right(seed: int) -> dict[str, NDArray[np.bool_]]:
    return {"validation": np.arange(COUNT) != seed % COUNT}


def rehearsal(subjects: Slice, name: str) -> Rehearsal:
    """A random head that shap notices and gradcam does not; repeats that change nothing."""
    head = tuple(maps_of(subjects, "head", 50, each, (1, 6) if each == "shap" else (4, 4)) for each in EXPLAINERS)
    again = (VersionMaps((maps_of(subjects, f"{name}/{seed}", seed, "shap", (4, 4)),), right(seed)) for seed in (1, 2))
    return Rehearsal(VersionMaps(head, right(1)), (next(again), next(again)))


def with_kept(record: AuditRecord, calibration: Calibration, moved: Any) -> AuditRecord:
    """The record with the facts that a flow adds."""
    instruments = tuple(
        {"slice": name, "explainer": explainer, **asdict(each)}
        for (name, explainer), each in calibration.instruments.items()
    )
    facts = CalibrationFacts(KEY, "5ca1ab1e", "2026-11-20T08:00:00+00:00", "retrains", DIGEST, record.floor, {})
    posted = PolicyFacts(record.report.policy_digest, 1795286770000, "0ddba11", record.report.policy_digest, ())
    return replace(record, calibration=facts, instruments=instruments, moved=moved, posted_policy=posted)


class Page(HTMLParser):
    """Every element of a page with its attributes and open ancestors, and the text a reader sees."""

    VOID = frozenset({"meta", "img", "br", "rect", "line", "circle", "path"})

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str], list[tuple[str, dict[str, str]]]]] = []
        self.open: list[tuple[str, dict[str, str]]] = []
        self.pieces: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {key: value or "" for key, value in attrs}
        self.elements.append((tag, attributes, list(self.open)))
        if tag not in self.VOID:
            self.open.append((tag, attributes))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}, list(self.open)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop()[0] == tag, f"</{tag}> closes another element"

    def handle_data(self, text: str) -> None:
        if not self.open or self.open[-1][0] != "style":
            self.pieces.append(text)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.pieces))

    def all(self, *tags: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes, _ in self.elements if tag in tags]

    def image(self, alt: str) -> str:
        (found,) = [each["src"] for each in self.all("img") if each["alt"] == alt]
        return found


@pytest.fixture(scope="module")
def drifted() -> Audit:
    return make_audit(moved=True)


@pytest.fixture(scope="module")
def kept() -> Audit:
    """An audit as a flow makes it, of odd and even digits, with retrains enough to tell that each of them moved."""
    return make_audit(
        moved=True, kept=True, retrains=16, policy=Policy(alpha=0.3, fewest_images=8, settings=Settings(class_images=8))
    )


@pytest.fixture(scope="module")
def kept_page(kept: Audit) -> Page:
    return Page(kept.page())


@pytest.fixture(scope="module")
def page(drifted: Audit) -> Page:
    return Page(drifted.page())


def require_harmless(page: Page) -> None:
    """No script, nothing to fetch, nothing that runs."""
    allowed = {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "header",
        "section",
        "div",
        "span",
        "p",
        "strong",
    }
    allowed |= {
        "h1",
        "h2",
        "h3",
        "h4",
        "dl",
        "dt",
        "dd",
        "ul",
        "li",
        "bdi",
        "code",
        "br",
        "figure",
        "figcaption",
        "img",
    }
    allowed |= {"table", "caption", "thead", "tbody", "tr", "th", "td", "details", "summary"}
    allowed |= {"svg", "rect", "line", "text", "tspan", "circle", "path"}
    assert {tag for tag, _, _ in page.elements} <= allowed
    for tag, attributes, _ in page.elements:
        assert not [key for key in attributes if key.startswith("on")], tag
        for key in ("src", "href", "xlink:href", "srcset", "action", "data", "poster", "style"):
            assert attributes.get(key, "data:image/png;base64,").startswith(("data:image/png;base64,", "#")), (tag, key)


def test_the_page_is_one_file_without_script_or_network(drifted, page):
    require_harmless(page)
    style = re.search(r"<style>(.*?)</style>", drifted.page(), re.DOTALL)
    assert style is not None
    assert len(style[1]) > 1000
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert {"content": "default-src 'none'; img-src data:; style-src 'unsafe-inline'"}.items() <= next(
        each for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy"
    ).items()


def test_every_element_is_closed(page):
    assert page.open == []


def test_rendering_again_gives_the_same_bytes(drifted):
    assert drifted.page() == make_audit(moved=True).page()


@pytest.mark.parametrize(
    ("arguments", "verdict", "sentence"),
    [
        (
            {"moved": True},
            "DRIFT",
            "the evidence of digits/7 moved further from digits/1 than retraining moves it anyway.",
        ),
        ({}, "PASS", "the evidence of digits/7 stayed within the distance from digits/1 that retraining makes anyway."),
        (
            {"retrains": 2, "policy": Policy(margins={})},
            "INCONCLUSIVE",
            "whether the evidence of digits/7 moved away from digits/1 could not be decided.",
        ),
    ],
)
def test_the_verdict_comes_first_in_plain_words(arguments, verdict, sentence):
    audit = make_audit(**arguments)
    page = Page(audit.page())
    assert audit.record.report.verdict.value == verdict
    title, _, rest = page.text.partition("Explanation drift audit")
    assert title.strip() == f"{verdict}: digits/7 against digits/1"
    before, found, after = rest.partition(f"On these {COUNT} images, {sentence}")
    assert found
    assert verdict in before
    assert len(before) < 80
    assert audit.record.report.reason in after[:300]
    assert any(each.get("class") == f"banner {verdict.lower()}" for each in page.all("div"))


def test_images_that_were_not_decided_rightly_by_both_do_not_carry_the_verdict(kept, kept_page):
    assert f"On the {COUNT - 2} of {COUNT} images that both versions decide rightly, the evidence" in kept_page.text
    assert f"{COUNT - 2} of {COUNT} carry the verdict" in kept_page.text
    assert {each.measurement.n for each in kept.record.report.findings if each.measurement.primary} == {COUNT - 2}


@pytest.mark.parametrize(
    ("change", "source", "noise", "models"),
    [
        ("same-function", "repeats", "explaining it anew moves it anyway", "5 repeats"),
        ("refresh", "retrains", "refreshing the data moves it anyway", "5 reference retrains"),
        ("fine-tune", "history", "an approved change moves it anyway", "5 approved versions"),
        ("a change of our own", "retrains", "this kind of change moves it anyway", "5 reference retrains"),
    ],
)
def test_the_sentence_names_the_noise_that_the_floor_holds(change, source, noise, models):
    audit = make_audit(moved=True, source=source)
    audit.record = replace(audit.record, change=change)
    text = Page(audit.page()).text
    assert f"moved further from digits/1 than {noise}." in text
    assert f"{TIERS['C' if source == 'history' else 'B']}; {models}" in text


def test_against_surrogates_nothing_is_decided_and_the_page_says_what_they_are():
    text = Page(make_audit(moved=True, source="surrogates").page()).text
    assert text.strip().startswith("INCONCLUSIVE")
    assert f"Tier D, K = 5{TIERS['D']}; 5 surrogates" in text
    assert "they are no retrains: never decisive" in text


@pytest.mark.parametrize("decides", [True, False])
def test_the_page_says_how_far_honest_versions_move_beside_surrogates_and_whether_these_decide(monkeypatch, decides):
    facts = {"log_mean": 0.0, "log_sd": 0.2, "freedom": 20.0, "lowest": 0.5, "highest": 1.5, "decides": decides}
    named = [(which, each) for which in ("each", "together") for each in ("coherent_shift", "rank_distance")]
    place = {"source": "late-checkpoints", "change": "retrain"}
    rows = tuple(facts | place | {"explainers": which, "statistic": each} for which, each in named)
    monkeypatch.setattr(factors, "_rows", lambda: rows)
    text = Page(make_audit(moved=True, source="late-checkpoints").page()).text
    assert text.strip().startswith("DRIFT" if decides else "INCONCLUSIVE")
    assert f"Tier D, K = 5{TIERS['D']}; 5 late checkpoints" in text
    told = "rank distance: honest versions of the zoo move 1 times as far as these, 0.5 to 1.5 seen, and the limit is"
    assert f"{told} theirs{'' if decides else '; it may not decide'}" in text
    assert ("the limits stand on 5 late checkpoints, honest versions of the zoo move" in text) is decides
    assert ("the floor's 5 late checkpoints" in text) is not decides


def test_an_alarm_of_scheduled_audits_is_not_said_of_this_audit_alone():
    audit = make_audit()
    process = EProcess(0.5).updated(np.full(60, 0.9))
    state = Sequence("nightly", process)
    policy = Policy()
    report = with_alarm(audit.record.report, state, policy)
    audit.record = replace(audit.record, report=report, sequence=state.document())
    text = Page(audit.page()).text
    assert "Over the audits of sequence nightly, the evidence of digits/7 moved further from digits/1" in text
    assert f"e = {process.value:.3g}, at most {process.peak:.3g} so far; the alarm is at 20" in text
    calm = Page(replace(audit, record=replace(audit.record, report=make_audit().record.report)).page()).text
    assert f"On these {COUNT} images, the evidence of digits/7 stayed within" in calm


def test_a_verdict_from_margins_alone_does_not_speak_of_retraining(drifted):
    findings = tuple(replace(each, bound=None) for each in drifted.record.report.findings)
    record = replace(drifted.record, report=replace(drifted.record.report, findings=findings))
    text = Page(replace(drifted, record=record).page()).text
    assert re.search(r"further from digits/1 than the policy.s margins allow\.", text)
    assert "retraining moves it" not in text


def test_without_a_floor_drift_is_called_no_more_than_a_margin():
    policy = Policy(margins_decide=True)
    text = Page(make_audit(moved=True, retrains=0, policy=policy).page()).text
    assert re.search(r"than the policy.s margins allow\. This is a margin alone: no floor was given", text)
    assert "Next: give a noise floor before you act on it" in text
    assert "retraining moves it anyway." not in text


def test_matched_noise_and_the_look_are_said():
    audit = make_audit(moved=True, source="noise", kept=True)
    draws = [{"draw": draw, "seed": 1, "sigma": 0.01 * draw, "divergence": 0.02, "churn": 0.07} for draw in (1, 2, 3)]
    noise = {"slice": "validation", "divergence": 0.0214, "churn": 0.0711, "images": 40, "tensors": [], "draws": draws}
    look = Look(1, 3, 64, 0.0179).row()
    calibration = replace(audit.record.calibration, noise=(noise,))
    audit.record = replace(audit.record, calibration=calibration, look=look)
    text = Page(audit.page()).text
    assert "5 draws of weight noise" in text
    assert "the answers of digits/7 diverge by 0.021 nats, 7 % are other decisions" in text
    assert "so do those of digits/1 with noise of 1 to 3 % of the spread of its weights" in text
    assert "1 of 3the first 64 images of each slice, in the order drawn" in text
    assert "0.018 of alpha for DRIFT" in text
    assert "whether the evidence of digits/7 moved away from digits/1 could not be decided" in text


def test_a_rule_that_is_not_met_is_said_in_the_headline():
    audit = make_audit()
    rule = {"expect": "attribution_drift_to_stay_below_margin", "statistic": "coherent_shift", "explainer": "shap"}
    rows = pd.DataFrame([each.row() for each in audit.record.report.findings])
    held = validate_measurements(rows, rules_of([{**rule, "margin": 0.01}]))
    failed = tuple(asdict(each) for each in held.checks)
    audit.record = replace(audit.record, report=with_rules(audit.record.report, held), rules=failed)
    text = Page(audit.page()).text
    assert text.strip().startswith("INCONCLUSIVE")
    assert "stayed near that of digits/1, but a rule of the configuration was not met." in text
    assert "not below 0.01; without rules it would be PASS" in text
    assert "0 of 1 met" in text
    assert "0.01.." not in text


def test_the_headline_states_change_floor_policy_run_and_date(drifted, page):
    for fact in ("retrain", "Tier B, K = 5", "gradcam, shap", "3f0c9b1e5d7a4c3f", "2026-11-21 12:44:09 UTC"):
        assert fact in page.text.partition("Predictions")[0]
    assert drifted.record.report.policy_digest in page.text.partition("Predictions")[0]


def test_the_headline_names_the_calibration_and_says_when_the_policy_was_fixed(kept, kept_page, page):
    top = kept_page.text.partition("Predictions")[0]
    for fact in ("2026-11-20 08:00:00 UTC", "5ca1ab1e", DIGEST, "Left out: gradcam, ", "None of them without a map"):
        assert fact in top
    assert "Null hypothesis: it moved no further than one more training of the reference's recipe" in top
    assert "Kept 2026-11-21 18:46:10 UTC, before anything was computed. The same as in the audit before" in top
    for fact in ("made for this comparison", "When it was fixed is not recorded", "None was left out"):
        assert fact in page.text.partition("Predictions")[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"before_run": None}, "The first audit of this model"),
        ({"changed": ("alpha", "margins.coherent_shift")}, "(run 0ddba11): alpha, margins.coherent_shift"),
        ({"digest": KEY}, f"Not the policy that was kept before the audit, which is {KEY}"),
    ],
)
def test_a_policy_that_changed_is_visible(kept, changes, words):
    posted = replace(kept.record.posted_policy, **changes)
    assert words in Page(replace(kept, record=replace(kept.record, posted_policy=posted)).page()).text


def test_accuracy_of_both_versions_the_floor_and_changes_are_shown(page):
    part = page.text.partition("How far the evidence moved")[0]
    for fact in ("90.0 %", "93.0 %", "90.5 % to 92.5 %", "3 (12.5 %)"):
        assert fact in part


def test_images_that_not_both_decide_rightly_are_named(kept, page):
    """Up to twenty of a kind; a verdict that rests on the others can be counted again."""
    (slice_,) = kept.record.slices
    outcomes = {"flipped": tuple(f"scans/{row:03d}.png" for row in range(22)), "both wrong": ("scans/023.png",)}
    record = replace(kept.record, slices=(replace(slice_, outcomes=outcomes),))
    text = Page(replace(kept, record=record).page()).text.partition("How far the evidence moved")[0]
    assert "Flipped, 22 images: scans/000.png, scans/001.png," in text
    assert "scans/019.png and 2 more, which audit.json names." in text
    assert "Both wrong, 1 image: scans/023.png." in text
    assert "Flipped" not in page.text.partition("How far the evidence moved")[0]


def test_where_models_and_pixels_came_from_is_on_the_page(kept):
    (slice_,) = kept.record.slices
    slices = (replace(slice_, preprocessing=asdict(Preprocessing((8, 8), (0.5,), (0.25,)))),)
    reference = replace(kept.record.reference, source="models:/m-41", run_id="7ra1n1n9")
    made_in = {"validation/gradcam/digits/7": {"0ddba11": 3}}
    record = replace(kept.record, slices=slices, reference=reference, made_in=made_in)
    text = Page(replace(kept, record=record).page()).text.partition("Digests, settings and versions")[2]
    for fact in ("models:/digits/1models:/m-417ra1n1n9sha256:", "interpolationbilinear", "std0.25"):
        assert fact in text.replace(" ", "")
    assert "not recorded" in text, "the others do not say"
    assert "0ddba113" in text.replace(" ", "")


def headline_findings(audit: Audit) -> list[Finding]:
    return [each for each in audit.record.report.findings if each.measurement.stratum in HEADLINES]


def test_every_number_of_every_finding_that_the_verdict_rests_on_is_in_its_table(kept, kept_page):
    for finding in headline_findings(kept):
        measured, effect = finding.measurement, kept.record.effect(finding)
        row = measured.statistic.replace("_", " ").capitalize()
        row += f"{number(measured.value)}{number(measured.lower)} to {number(measured.upper)}"
        row += times(finding.times_floor) + share(effect.floor_to_ceiling)
        row += number(finding.bound) + number(finding.margin) + chance(finding.p_value) + chance(finding.adjusted)
        assert row + (finding.verdict.value if measured.primary else "shown only") in kept_page.text, measured


def test_every_primary_statistic_has_a_strip_that_says_what_it_shows(drifted, page):
    primary = [each for each in drifted.record.report.findings if each.measurement.primary]
    drawings = page.all("svg")
    assert len(drawings) == len(primary)
    for drawing, finding in zip(drawings, primary, strict=True):
        assert drawing["role"] == "img"
        for value in (finding.measurement.value, finding.limit, max(finding.measurement.floor.distances)):
            assert number(value) in drawing["aria-label"]
        assert "5 reference retrains" in drawing["aria-label"]
        assert f"{times(finding.times_floor)} the floor" in page.text
        assert finding.reason[1:] in page.text
    assert len(page.all("circle")) == 5 * len(drawings)


def test_strata_stand_beside_each_other_and_only_one_carries_the_verdict(kept, kept_page, page):
    part = kept_page.text.partition("By how both versions decided")[2].partition("Class by class")[0]
    rows = [each.measurement for each in kept.record.report.findings if each.measurement.stratum in OUTCOMES]
    assert {each.stratum for each in rows} == set(OUTCOMES)
    for each in rows:
        if each.n and each.statistic in ("coherent_shift", "rank_distance"):
            assert f"{number(each.value)}{number(each.lower)} to {number(each.upper)}, n = {each.n}" in part
    assert f"{NOTHING}n = 0" in part, "nobody decided an image wrongly twice"
    assert "By how both versions decided" not in page.text


def clustered(kept: Audit, **changes: Any) -> Audit:
    """The kept audit, with the first explainer's clusters changed."""
    first, *others = kept.record.clusters
    return replace(kept, record=replace(kept.record, clusters=(replace(first, **changes), *others)))


def decided(statistic: str, verdict: str, stratum: str = "all", floor: tuple[float, ...] = (0.1, 0.11, 0.12, 0.1)):
    floors = DecisionFloor(floor, ("m",) * len(floor))
    levels = (None, None) if statistic == "churn" else (0.72, 0.331)
    facts = (0.389, 0.3, 0.46, *levels, np.zeros((COUNT, 1)), floors)
    measured = DecisionMeasurement("validation", statistic, stratum, *facts)
    bound = 0.2 if floor else None
    return DecisionFinding(measured, bound, 0.02, 0.2, 0.0123, 0.0456, Verdict[verdict], "because of that")


def with_decisions(audit: Audit, *decisions: DecisionFinding) -> Page:
    report = audit.record.report
    verdict, reason = combine(report.findings, report.agreements, report.moved, decisions=decisions)
    changed = replace(report, verdict=verdict, reason=reason, decisions=decisions)
    return Page(replace(audit, record=replace(audit.record, report=changed)).page())


@pytest.mark.parametrize(
    ("moved", "verdicts", "sentence"),
    [
        (False, ("PASS", "DRIFT"), "the decisions of digits/7 moved further from digits/1 than retraining moves them"),
        (
            True,
            ("DRIFT", "PASS"),
            "the decisions and the evidence of digits/7 moved further from digits/1 than retrain",
        ),
        (True, ("PASS", "PASS"), "than retraining moves it anyway. Its decisions stayed near those of the reference."),
        (True, ("PASS", "INCONCLUSIVE"), "moves it anyway. Whether its decisions moved could not be decided."),
        (False, ("PASS", "PASS"), "that retraining makes anyway. Its decisions stayed near those of the reference."),
        (
            False,
            ("INCONCLUSIVE", "PASS"),
            "the evidence of digits/7 stayed near that of digits/1. Whether its decisions moved could not be decided.",
        ),
    ],
)
def test_the_first_section_shows_decisions_and_evidence(moved, verdicts, sentence):
    audit = make_audit(moved=moved)
    page = with_decisions(audit, decided("accuracy_loss", verdicts[0]), decided("churn", verdicts[1]))
    first = page.text.partition("Predictions")[0]
    assert sentence in first
    worst = next(each for each in ("DRIFT", "INCONCLUSIVE", "PASS") if each in verdicts)
    assert f"Its decisions {worst}" in first
    assert f"Its evidence {'DRIFT' if moved else 'PASS'}" in first
    assert "accuracy fell from 72.0 % to 33.1 %" in first
    assert "38.9 % of the predictions changed" in first


def test_what_is_left_out_of_decisions_is_shown_and_counts_for_nothing():
    left_out = replace(decided("churn", "INCONCLUSIVE", floor=()), unfit=True)
    page = with_decisions(make_audit(), decided("accuracy_loss", "PASS"), left_out)
    first = page.text.partition("Predictions")[0]
    assert "Its decisions PASS" in first
    assert "38.9 % of the predictions changed, left out" in first
    assert "but on slice validation 38.9 % of the predictions changed" in first


def test_margins_alone_are_said_to_be_margins():
    page = with_decisions(make_audit(), decided("accuracy_loss", "DRIFT", floor=()))
    assert "the decisions of digits/7 moved further from digits/1 than the policy's margins allow." in plain(page.text)


def test_every_number_of_a_decision_is_in_its_table(kept, kept_page):
    assert "Its decisions" not in kept_page.text
    flagged = decided("accuracy_loss", "DRIFT", stratum="class 1")
    page = with_decisions(kept, decided("accuracy_loss", "INCONCLUSIVE"), flagged, decided("churn", "PASS", "class 0"))
    part = page.text.partition("Predictions")[2].partition("How far the evidence moved")[0]
    for said in ("72.0 %", "33.1 %", "38.9 %", "30.0 % to 46.0 %", "10.0 % to 12.0 %", "20.0 %", "0.0123", "0.0456"):
        assert said in part
    assert part.count("because of that") == 2
    assert "Accuracy loss of class 1: because of that" in part
    assert "Churn" not in part


def plain(text: str) -> str:
    """With the apostrophe of a keyboard."""
    return text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")


def strategies_part(page: Page) -> str:
    return plain(page.text).partition("Strategies that came and went")[2].partition("Can the explainers measure")[0]


def test_strategies_beyond_the_floor_are_shown_with_their_numbers_and_pictures(kept, kept_page, page):
    part = strategies_part(kept_page)
    shown = [(found, each) for found in kept.record.clusters for each in found.clusters if each.move != "steady"]
    assert "new" in {each.move for _, each in shown}, "all evidence went to another place"
    for found, each in shown:
        assert f"Cluster {each.name} {each.move.upper()}" in part
        assert f"{each.came} images came, {each.left} left (p " in part
        reach = f"between {percent(each.low)} and" if each.low else "below"
        assert f"one more stays {reach} {percent(each.high)}" in part
        drawing, *_ = [
            plain(svg["aria-label"])
            for svg in kept_page.all("svg")
            if svg["aria-label"].startswith(f"cluster {each.name}: ")
            and f"{percent(each.before / found.images)} of the reference" in svg["aria-label"]
            and f"{percent(each.after / found.images)} of the candidate" in svg["aria-label"]
            and f"bounds {percent(each.low)} to {percent(each.high)}." in svg["aria-label"]
        ]
        assert f"floor's models {percent(min(each.floor))} to {percent(max(each.floor))}" in drawing
        role = "candidate" if each.came >= each.left else "reference"
        alts = [image["alt"] for image in kept_page.all("img")]
        for sample in each.exemplars[:3]:
            assert f"Cluster {each.name}: {found.explainer} map of the {role} for image {sample}" in alts
    for found in kept.record.clusters:
        new = sum(each.move == "new" for each in found.clusters)
        assert f"of {len(found.clusters)} clusters lie beyond what the floor's models show, {new} of them new" in part
        assert f"On balance {percent(found.shift)} of the maps changed clusters" in part
    assert "Strategies that came and went" not in page.text, "a record without clusters has no such section"


def require_pictures(audit: Audit, move: str, role: str, changed: str) -> None:
    """The largest cluster that moved like this shows the mean maps of its images, and some of them by one version."""
    page, found = Page(audit.page()), audit.record.clusters[0]
    each = max((one for one in found.clusters if one.move == move), key=lambda one: one.came + one.left)
    before, after = (np.array(list(letters)) == each.name for letters in (found.before, found.after))
    rows = before != after
    assert 0 < rows.sum() == max(each.came, each.left) < COUNT
    sources = Sources.found("validation", found.explainer, audit.maps, audit.slices)
    expected, what = sources.mean(rows, 96), f"Cluster {each.name}: mean {found.explainer} map of the"
    assert page.image(f"{what} reference for the images that {changed}") == expected.reference
    assert page.image(f"{what} candidate for the images that {changed}") == expected.candidate
    assert expected.candidate != sources.mean(np.ones(COUNT, dtype=np.bool_), 96).candidate
    for sample in each.exemplars[:3]:
        pair = sources.of(sources.slice.sample_ids.index(sample), 96)
        shown = page.image(f"Cluster {each.name}: {found.explainer} map of the {role} for image {sample}")
        assert shown == getattr(pair, role)


def test_a_new_cluster_is_pictured_by_the_candidates_maps_of_the_images_that_came(kept):
    require_pictures(kept, "new", "candidate", "came")


def test_a_cluster_that_is_gone_is_pictured_by_the_references_maps_of_the_images_that_left(kept):
    found = kept.record.clusters[0]
    turned = tuple(
        replace(each, before=each.after, after=each.before, came=each.left, left=each.came, move="gone")
        for each in found.clusters
        if each.move == "new"
    )
    require_pictures(
        clustered(kept, before=found.after, after=found.before, clusters=turned), "gone", "reference", "left"
    )


def test_where_no_cluster_lies_beyond_one_line_says_so(kept):
    steady = tuple(replace(each, move="steady") for each in kept.record.clusters[0].clusters)
    text = strategies_part(Page(clustered(kept, clusters=steady).page()))
    assert f"None of {len(steady)} clusters lies beyond what the floor's models show." in text


def test_without_the_floors_maps_clusters_are_shown_and_not_judged(kept):
    found = kept.record.clusters[0]
    bare = tuple(
        replace(each, floor=(), low=None, high=None, move="not judged", p_value=0.01 if each.came > 1 else 1.0)
        for each in found.clusters
    )
    page = Page(clustered(kept, clusters=bare, floor={}, floor_shift=(), shift_p=None).page())
    text = strategies_part(page)
    assert "Not judged: the maps of at least four floor models were not at hand." in text
    significant = [each for each in bare if each.p_value <= 0.05]
    assert 0 < len(significant) <= 6
    assert f"{len(significant)} of {len(bare)} clusters changed significantly among the images" in text
    assert all(f"Cluster {each.name} NOT JUDGED" in text for each in significant)
    require_harmless(page)


def test_of_many_clusters_the_six_that_moved_furthest_are_shown(kept):
    found = kept.record.clusters[0]
    mover = next(each for each in found.clusters if each.came)
    many = tuple(replace(mover, before=0, after=row, move="grown") for row in range(1, 10))
    record = replace(kept.record, clusters=(replace(found, clusters=many),))
    (made,) = strategies_of(record, kept.maps, kept.slices)
    assert [each.cluster.after for each in made.shown] == [9, 8, 7, 6, 5, 4]
    assert (made.beyond, made.new, made.judged) == (9, 0, True)
    assert "The 6 furthest of 9 are shown" in Page(replace(kept, record=record).page()).text


def test_clusters_of_other_images_are_refused(kept):
    with pytest.raises(RecordError, match="are of 3 images, the slice has 24"):
        clustered(kept, before="AAA", after="AAA").page()


def agreement(**changes: Any) -> Agreement:
    floor = NoiseFloor((0.1, 0.2, 0.15, 0.12), ("a", "b", "c", "d"))
    facts = {"value": 0.5, "lower": 0.45, "p_value": 0.0012, "adjusted": 0.0024, "flagged": True} | changes
    return Agreement("validation", "rank_distance", EXPLAINERS, floor=floor, margin=0.05, **facts)


def test_what_all_explainers_see_together_is_on_the_page(kept):
    together = (agreement(), agreement(value=0.3, lower=0.2, adjusted=0.4, flagged=False, hides=True))
    images = MovedImages(
        "validation", EXPLAINERS, 22, ("scans/003.png", "scans/001.png"), 0.05, 0.001, 0.002, 0.02, True
    )
    report = replace(kept.record.report, agreements=together, moved=(images,))
    page = Page(replace(kept, record=replace(kept.record, report=report)).page())
    part = plain(page.text).partition("What all explainers see together")[2].partition("By how both versions")[0]
    for each in together:
        row = f"{number(each.value)}at least {number(each.lower)}0.100 to 0.200{number(each.margin)}"
        row += f"{chance(each.p_value)}{chance(each.adjusted)}{'FLAGGED' if each.flagged else 'NOT FLAGGED'}"
        assert row in part
    assert "would be, if lost maps had moved" in part
    assert "FLAGGED 2 of 22 images have evidence where neither the reference nor the floor's models have it" in part
    assert "(adjusted p = 0.0020, flagged at most at 0.0200)" in part
    assert "By gradcam, shap together, the furthest first: scans/003.png, scans/001.png." in part
    nothing = replace(report, agreements=(), moved=())
    bare = Page(replace(kept, record=replace(kept.record, report=nothing)).page())
    assert "What all explainers see together" not in bare.text


def class_findings(audit: Audit) -> list[Finding]:
    return [each for each in audit.record.report.findings if each.measurement.localised]


def test_flagged_classes_are_named_with_their_numbers_and_every_class_has_a_lane(kept, kept_page):
    flagged = [each for each in class_findings(kept) if each.verdict is Verdict.DRIFT]
    assert flagged, "the evidence of every class moved"
    part = kept_page.text.partition("Class by class")[2].partition("Can the explainers")[0]
    for finding in flagged:
        measured = finding.measurement
        assert f"{measured.explainer}, {measured.statistic.replace('_', ' ')} {number(measured.value)}" in part
    panels = [each for each in kept_page.all("svg") if "class 0" in each["aria-label"]]
    drawn = {(each.measurement.explainer, each.measurement.statistic) for each in class_findings(kept)}
    assert len(panels) == len(drawn)
    for finding in class_findings(kept):
        words = f"{finding.measurement.stratum} {number(finding.measurement.value)}, {finding.verdict.value};"
        assert any(words in each["aria-label"] for each in panels)


def test_of_many_classes_the_flagged_and_the_furthest_are_drawn():
    many = [
        finding_of(stratum=f"class {row}", distances=(0.1, 0.1, 0.1, 0.1), value=0.1 + 0.01 * row, localised=True)
        for row in range(40)
    ]
    many[3] = replace(many[3], verdict=Verdict.DRIFT)
    (found,) = classes_of(many, fewest=50)
    assert (found.measured, found.shown, found.within, found.open, found.few) == (40, SHOWN, 0, 39, 39)
    (panel,) = found.panels
    shown = [lane.finding.measurement.stratum for lane in panel.lanes]
    assert shown == ["class 3", *(f"class {row}" for row in range(40 - SHOWN + 1, 40))]
    assert [name for name, _ in found.flagged] == ["class 3"]
    assert all(lane.y < panel.height for lane in panel.lanes)


def test_an_explainer_that_cannot_measure_is_left_out_and_the_page_says_why(kept, kept_page, page):
    part = kept_page.text.partition("Can the explainers measure here?")[2].partition("What this audit")[0]
    primary = [each for each in kept.record.report.findings if each.measurement.primary]
    left_out = [each for each in primary if each.unfit]
    assert {each.measurement.explainer for each in left_out} == {"gradcam"}
    for finding in left_out:
        assert f"LEFT OUT{finding.reason[0].upper()}{finding.reason[1:]}." in part
        assert f"gradcam, {finding.measurement.statistic.replace('_', ' ')}" in kept_page.text.partition("Predict")[0]
    assert part.count("PASSED") == len(primary) - len(left_out) > 0
    assert "0.875: R² of the emulator on evaluations left out" in part
    assert page.text.count("NOT CHECKED") == len(page.all("svg")), "without a calibration nothing was rehearsed"


def test_what_could_have_been_seen_is_said_for_every_primary_statistic(kept, kept_page):
    part = kept_page.text.partition("What this audit could have seen")[2].partition("What this verdict does not")[0]
    for finding in kept.record.report.findings:
        if finding.measurement.primary:
            effect = kept.record.effect(finding)
            for distance in (effect.detectable_by_images, effect.detectable_by_models):
                assert distance is not None
                assert (number(distance) if distance <= finding.measurement.ceiling else "out of reach") in part


def test_twenty_images_are_named_and_eight_of_them_drawn(kept, kept_page):
    moved = [each for each in kept.record.moved if each.explainer == "gradcam"]
    assert len(moved) == 20
    drawn = [each["alt"] for each in kept_page.all("img") if each["alt"].startswith("gradcam map of the candidate for")]
    assert drawn == [f"gradcam map of the candidate for image {each.sample}" for each in moved[:8]]
    for each in moved[8:]:
        assert f"{each.sample} ({number(each.distance)}" in kept_page.text
    assert "both right, label" in kept_page.text


def test_the_record_holds_what_the_page_says_as_strict_json(kept, drifted):
    for audit in (kept, drifted):
        text = json.dumps(audit.record.document(), allow_nan=False, default=dict)
        assert "times_floor" in text
    document = json.loads(json.dumps(kept.record.document(), allow_nan=False, default=dict))
    assert len(document["moved"]) == 40
    assert {each["outcome"] for each in document["moved"]} <= set(OUTCOMES)
    for row, finding in zip(document["measurements"], kept.record.report.findings, strict=True):
        assert row["ceiling"] == kept.record.effect(finding).ceiling
        assert row["floor_models"] == list(finding.measurement.floor.models)
        assert (row["detectable_by_images"] is None) == (not row["primary"])


def test_a_hostile_name_is_shown_and_never_run():
    samples = {row: f"{EVIL_SAMPLE}{row}" for row in range(COUNT)}
    audit = make_audit(moved=True, kept=True, name=EVIL, samples=samples)
    (slice_,) = audit.record.slices
    audit.record = replace(
        audit.record,
        environment={EVIL: EVIL},
        slices=(replace(slice_, outcomes={EVIL: (EVIL_SAMPLE,)}, preprocessing={EVIL: EVIL}),),
        made_in={EVIL: {EVIL: 1}},
        explainers=({"name": EVIL, "parameters": {EVIL: EVIL}},),
        run={"run_id": EVIL, "time": EVIL},
        change=EVIL,
        report=replace(audit.record.report, reason=EVIL),
        calibration=CalibrationFacts(EVIL, EVIL, EVIL, EVIL, EVIL, (), {}),
        posted_policy=PolicyFacts(audit.record.report.policy_digest, 0, EVIL, EVIL, (EVIL,)),
        instruments=({"slice": "validation", "explainer": "gradcam", "diagnostics": {EVIL: 0.5}},),
    )
    html = audit.page()
    page = Page(html)
    require_harmless(page)
    assert f"{EVIL}/7" in page.text
    assert '"><img src=x onerror=alert(1)>' in page.text
    assert any(each["alt"].startswith("Cluster") and EVIL_SAMPLE[:9] in each["alt"] for each in page.all("img"))
    assert "\u202e" not in html, "a name must not turn the direction of writing"
    assert "\\u202egnp.exe" in page.text


def test_every_digest_of_the_record_is_on_the_page(drifted, page):
    digests = {text for _, text in flat(drifted.record.document()) if text.startswith("sha256:")}
    assert len(digests) == 7 + 14 + 1 + 1, "weights of seven versions, two maps of each, slice, policy"
    for digest in digests:
        assert digest in page.text


def test_key_and_digest_of_the_calibration_are_on_the_page(kept_page):
    assert DIGEST in kept_page.text
    assert KEY in kept_page.text


def test_what_is_not_claimed_settings_and_versions_are_on_the_page(drifted, page):
    for claim in drifted.record.not_claimed:
        assert claim in page.text
    for fact in ("parameters.layerblocks.3", "settings.resamples2000", "torch2.15.0", "margins.coherent_shift0.05"):
        assert fact in page.text
    assert len(page.all("details")) == 1 + 2, "identities, and each explainer's supporting statistics"


def test_statistics_that_are_shown_only_carry_no_verdict(drifted, page):
    supporting = [
        attributes for tag, attributes, above in page.elements
        if "badge" in attributes.get("class", "") and any(each == "details" for each, _ in above)
    ]  # fmt: skip
    assert not supporting
    shown = [each for each in drifted.record.report.findings if each.measurement.stratum in HEADLINES]
    assert page.text.count("shown only") == sum(not each.measurement.primary for each in shown) > 0


def test_a_pair_shares_one_colour_scale():
    """Evidence half as strong must look weaker; scaled each for itself the two maps would be the same picture."""
    audit = make_audit()
    reference = audit.maps["validation", "gradcam", "reference"]
    half = replace(reference, values=reference.values / 2, model="digits/7")
    audit.maps["validation", "gradcam", "candidate"] = half
    page = Page(audit.page())
    assert page.image("Mean gradcam map of digits/1") != page.image("Mean gradcam map of digits/7")
    sample = reference.sample_ids[0]
    versions = [page.image(f"gradcam map of the {role} for image {sample}") for role in ("reference", "candidate")]
    assert versions[0] != versions[1]
    audit.maps["validation", "gradcam", "candidate"] = replace(half, values=reference.values)
    same = Page(audit.page())
    assert same.image("Mean gradcam map of digits/1") == same.image("Mean gradcam map of digits/7")
    assert same.image("Mean gradcam map of digits/1") == page.image("Mean gradcam map of digits/1")


def test_the_images_that_moved_most_come_first(drifted, page):
    maps = [drifted.maps["validation", "gradcam", role] for role in ("reference", "candidate")]
    ranked = most_moved(*(VersionMaps((each,)) for each in maps), Settings())
    expected = [each.sample for each in ranked[:8]]
    shown = [each["alt"] for each in page.all("img") if each["alt"].startswith("gradcam map of the reference for")]
    assert shown == [f"gradcam map of the reference for image {sample}" for sample in expected]
    label = drifted.slices["validation"].labels[maps[0].sample_ids.index(expected[0])]
    assert f"{expected[0]}distance {ranked[0].distance:.3f}, label {label}, map explains class {label}" in page.text


def with_gaps(audit: Audit, role: str, rows: range) -> Attributions:
    maps = audit.maps["validation", "gradcam", role]
    values = maps.values.copy()
    values[rows] = np.nan
    gaps = {maps.sample_ids[row]: "no positive evidence for the target" for row in rows}
    return replace(maps, values=values, undefined=gaps)


def test_images_without_a_map_are_counted_shown_and_explained():
    audit = make_audit()
    audit.maps["validation", "gradcam", "candidate"] = with_gaps(audit, "candidate", range(5, 11))
    page = Page(audit.page())
    subjects = audit.slices["validation"]
    assert "Without a map in one of the versions: 6 images, the first 4 of them" in page.text
    assert "No map: digits/7: no positive evidence for the target" in page.text
    assert "over 18 images" in page.text
    gap = data_uri(png(no_map(fit(subjects.pictures()[5])), 256))
    assert page.image(f"gradcam map of the candidate for image {subjects.sample_ids[5]}") == gap
    assert page.image(f"gradcam map of the reference for image {subjects.sample_ids[5]}") != gap


def test_maps_that_are_nowhere_defined_in_both_versions_give_no_mean_map():
    audit = make_audit()
    audit.maps["validation", "gradcam", "candidate"] = with_gaps(audit, "candidate", range(12))
    audit.maps["validation", "gradcam", "reference"] = with_gaps(audit, "reference", range(12, COUNT))
    page = Page(audit.page())
    assert "No image has a map in both versions" in page.text
    assert not [each for each in page.all("img") if each["alt"].startswith("Mean gradcam")]


def test_maps_that_were_not_given_or_are_of_other_images_are_refused(drifted):
    missing = {key: each for key, each in drifted.maps.items() if key != ("validation", "shap", "candidate")}
    with pytest.raises(RecordError, match="candidate maps of shap on slice 'validation' were not given"):
        render_report(drifted.record, missing, drifted.slices)
    with pytest.raises(RecordError, match="images of slice 'validation' were not given"):
        render_report(drifted.record, drifted.maps, {})
    others = {"validation": digits_slice("validation", {0: "another.png"})}
    with pytest.raises(RecordError, match="reference maps of gradcam are not of the given slice"):
        render_report(drifted.record, drifted.maps, others)


def test_a_slice_with_regions_is_shown_like_any_other(drifted, page):
    plain = drifted.slices["validation"]
    subjects = replace(plain, regions=np.ones((COUNT, 8, 8), dtype=np.bool_))
    maps = {key: replace(each, slice_digest=subjects.digest) for key, each in drifted.maps.items()}
    shown = Page(render_report(drifted.record, maps, {"validation": subjects}))
    assert [each["src"] for each in shown.all("img")] == [each["src"] for each in page.all("img")]


def test_a_section_is_added_by_adding_its_file(drifted, tmp_path, monkeypatch):
    folder = tmp_path / "report"
    shutil.copytree(report_module.FOLDER, folder)
    known = section_names(folder)
    (folder / "sections" / "35-extra.html").write_text(
        "<section><h2>Extra for {{ record.candidate.label }}</h2></section>"
    )
    (folder / "sections" / "9-notice.html").write_text("<p>Notice</p>")
    (folder / "sections" / "35-extra.html~").write_text("not a section")
    monkeypatch.setattr(report_module, "FOLDER", folder)
    added = section_names(folder)
    assert added[0] == "sections/9-notice.html", "the number counts, not the alphabet"
    assert set(added) - set(known) == {"sections/9-notice.html", "sections/35-extra.html"}
    text = Page(drifted.page()).text
    places = [text.index(each) for each in ("Notice", "How far the evidence", "Extra for digits/7", "Can the expl")]
    assert places == sorted(places)


def test_headings_are_in_order_and_every_picture_has_words(page):
    levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))
    assert all(each["alt"].strip() for each in page.all("img"))
    assert page.all("html") == [{"lang": "en"}]


def test_wide_tables_scroll_in_a_box_of_their_own(page):
    tables = [around for tag, _, around in page.elements if tag == "table"]
    assert len(tables) > 5
    for around in tables:
        assert any(attributes.get("class") == "scroll" and "tabindex" in attributes for _, attributes in around)


def test_eight_photographs_for_one_explainer_stay_below_a_megabyte():
    """Three explainers then stay below the 3 MB that open at once in MLflow's viewer."""
    audit = make_audit(moved=True)
    photograph = data.astronaut()
    crops = [
        np.asarray(Image.fromarray(photograph[8 * row : 320 + 8 * row]).resize((224, 224))) for row in range(COUNT)
    ]
    images = (np.stack(crops).transpose(0, 3, 1, 2) / 127.5 - 1).astype(np.float32)
    old = audit.slices["validation"]
    subjects = replace(old, images=images, preprocessing=Preprocessing((224, 224), (0.5,) * 3, (0.5,) * 3))
    findings = tuple(each for each in audit.record.report.findings if each.measurement.explainer == "gradcam")
    record = replace(audit.record, report=replace(audit.record.report, findings=findings))
    maps = {key: replace(each, slice_digest=subjects.digest) for key, each in audit.maps.items()}
    assert 200_000 < len(render_report(record, maps, {"validation": subjects})) < 1_000_000


def finding_of(**changes: Any) -> Finding:
    facts: dict[str, Any] = {"value": 0.4, "lower": 0.35, "upper": 0.45, "ceiling": 2.0, "limit": 0.2}
    facts |= {"distances": (0.1, 0.12, 0.15), "stratum": "all", "localised": False} | changes
    measured = Measurement(
        slice="s",
        explainer="gradcam",
        statistic="rank_distance",
        value=facts["value"],
        lower=facts["lower"],
        upper=facts["upper"],
        ceiling=facts["ceiling"],
        n=24,
        undefined=0,
        primary=not facts["localised"],
        floor=NoiseFloor(facts["distances"], tuple(str(row) for row in range(len(facts["distances"])))),
        stratum=facts["stratum"],
        localised=facts["localised"],
    )
    return Finding(measured, None, None, facts["limit"], None, None, Verdict.INCONCLUSIVE, False, "")


def test_a_strip_puts_everything_in_its_order():
    strip = strip_of(finding_of())
    assert strip.axis.end == 0.5
    assert strip.limit is not None
    assert strip.lower is not None
    assert strip.value is not None
    assert strip.upper is not None
    places = [LEFT, *strip.dots, strip.limit, strip.lower, strip.value, strip.upper, RIGHT]
    assert places == sorted(places)
    assert len(set(places)) == len(places)
    assert strip.value == pytest.approx(LEFT + 0.8 * (RIGHT - LEFT), abs=0.1)


def test_a_strip_never_reaches_beyond_what_the_statistic_can():
    strip = strip_of(finding_of(ceiling=1.0, limit=5.0))
    assert strip.axis.end == 1.0
    assert strip.limit is None


def test_an_axis_holds_every_finding_and_their_limits_only_if_asked():
    findings = [finding_of(), finding_of(value=0.9, upper=0.95, limit=1.9)]
    assert axis_of(findings, limits=False).end == 1.0
    assert axis_of(findings).end == 2.0
    assert axis_of(findings, 100.0, 200.0).place(1.0) == 150.0
    assert strip_of(findings[1], axis_of(findings, limits=False)).limit is None


def test_a_strip_without_a_value_or_a_floor_is_empty():
    nothing = float("nan")
    strip = strip_of(finding_of(value=nothing, lower=nothing, upper=nothing, limit=None, distances=()))
    assert (strip.axis.end, strip.dots, strip.limit, strip.value) == (1.0, (), None, None)


def test_a_finding_without_a_value_is_drawn_and_said(drifted):
    nothing = float("nan")
    findings = drifted.record.report.findings
    first = next(each for each in findings if each.measurement.primary)
    unknown = replace(first.measurement, value=nothing, lower=nothing, upper=nothing, n=0, floor=NoiseFloor())
    finding = replace(
        first,
        measurement=unknown,
        bound=None,
        limit=None,
        p_value=None,
        adjusted=None,
        strict=False,
        verdict=Verdict.INCONCLUSIVE,
    )
    report = replace(drifted.record.report, findings=tuple(finding if each is first else each for each in findings))
    text = Page(replace(drifted, record=replace(drifted.record, report=report)).page()).text
    for words in ("candidate unknown", "no reference retrains", "no limit", "Tier 0, K = 0"):
        assert words in text


def test_numbers_are_written_as_people_read_them():
    assert [number(each) for each in (0.1234, 0.0, 0.000123, None, float("nan"))] == [
        "0.123",
        "0.000",
        "0.00012",
        NOTHING,
        NOTHING,
    ]
    assert [percent(each) for each in (0.96875, None)] == ["96.9 %", NOTHING]
    assert [chance(each) for each in (0.04567, 1e-9, 0.0, None)] == ["0.0457", "< 0.0001", "< 0.0001", NOTHING]
    assert moment("2026-11-21T12:44:09+00:00") == "2026-11-21 12:44:09 UTC"
    assert moment("yesterday") == "yesterday"
    assert moment(1795286770999) == "2026-11-21 18:46:10 UTC"
    assert chance(2.5) == "1.0000", "an adjusted p-value is one"
    assert [times(each) for each in (1.44, 9.94, 9.96, None)] == [
        "1.4 \N{MULTIPLICATION SIGN}",
        "9.9 \N{MULTIPLICATION SIGN}",
        "10 \N{MULTIPLICATION SIGN}",
        NOTHING,
    ]
    assert [share(each) for each in (0.714, 1.64, -0.052, -0.001, None)] == [
        "71 %",
        "164 %",
        "\N{MINUS SIGN}5 %",
        "0 %",
        NOTHING,
    ]
    assert dict(flat({"a": {"b": (1, 2), "c": None}, "d": [], "e": [{"f": 3}]})) == {
        "a.b": "1, 2",
        "a.c": NOTHING,
        "d": NOTHING,
        "e.0.f": "3",
    }


if __name__ == "__main__":
    print(make_audit(moved=True, kept=True).page())
