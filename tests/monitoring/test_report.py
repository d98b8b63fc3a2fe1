"""The report: self-contained, safe against hostile names, honest about scales and gaps."""

import itertools
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage import data
from sklearn.datasets import load_digits

from attrail_explainers.attributions import Attributions
from attrail_explainers.errors import RecordError
from attrail_explainers.slice import Preprocessing, Slice
from attrail_monitoring import Policy, compare
from attrail_monitoring.audit_record import AuditRecord, ModelFacts, SliceFacts
from attrail_monitoring.floor import NoiseFloor
from attrail_monitoring.measurement import Measurement, Settings, image_distances
from attrail_monitoring.picture import data_uri, fit, no_map, png
from attrail_monitoring.report import report as report_module
from attrail_monitoring.report.report import render_report, section_names
from attrail_monitoring.report.strip import LEFT, RIGHT, strip_of
from attrail_monitoring.report.wording import NOTHING, chance, flat, moment, number, percent
from attrail_monitoring.verdict import Finding, Verdict

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


def digits_slice(name: str, samples: Mapping[int, str]) -> Slice:
    digits = load_digits()
    images = (digits.images[:COUNT, None] / 8 - 1).astype(np.float32)
    ids = tuple(samples.get(row, f"scans/{row:03d}.png") for row in range(COUNT))
    preprocessing = Preprocessing((8, 8), (0.5,), (0.5,))
    return Slice(name, images, digits.target[:COUNT].astype(np.int64), ids, preprocessing)


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
    )


def make_audit(
    *, moved: bool = False, retrains: int = 5, name: str = "digits", samples: Mapping[int, str] | None = None
) -> Audit:
    """An audit of two explainers on one slice: a candidate whose evidence moved or did not."""
    subjects = digits_slice("validation", samples or {})
    seeds = {"1": 1, **{str(version): version for version in range(2, 2 + retrains)}, "7": 99}
    every = {
        version: [
            maps_of(subjects, f"{name}/{version}", seed, each, (1, 1) if moved and version == "7" else (4, 4))
            for each in ("gradcam", "shap")
        ]
        for version, seed in seeds.items()
    }
    retrained = [version for version in every if version not in ("1", "7")]
    policy = Policy()
    facts = {
        version: ModelFacts(
            f"{name}/{version}",
            f"models:/{name}/{version}",
            maps[0].weights_digest,
            {"1": "reference", "7": "candidate"}.get(version, "floor"),
            version,
        )
        for version, maps in every.items()
    }
    accuracy = {f"{name}/{version}": 0.9 + 0.005 * row for row, version in enumerate(every)}
    record = AuditRecord(
        change="retrain",
        reference=facts["1"],
        candidate=facts["7"],
        floor=tuple(facts[version] for version in retrained),
        slices=(SliceFacts("validation", "scans.csv", subjects.digest, COUNT, accuracy, 3),),
        explainers=tuple({"name": each, "parameters": {"layer": "blocks.3"}} for each in ("gradcam", "shap")),
        report=compare(every["1"], every["7"], [every[version] for version in retrained], policy),
        policy=asdict(policy),
        maps={f"validation/{maps.explainer}/{maps.model}": maps.digest for each in every.values() for maps in each},
        environment={"python": "3.11.7", "torch": "2.15.0"},
        run={"run_id": "3f0c9b1e5d7a4c3f", "time": "2026-11-21T12:44:09+00:00"},
    )
    maps = {
        ("validation", each.explainer, role): each
        for role, version in (("reference", "1"), ("candidate", "7"))
        for each in every[version]
    }
    return Audit(record, maps, {"validation": subjects})


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
            {"retrains": 2},
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


def test_a_verdict_from_margins_alone_does_not_speak_of_retraining(drifted):
    findings = tuple(replace(each, bound=None) for each in drifted.record.report.findings)
    record = replace(drifted.record, report=replace(drifted.record.report, findings=findings))
    text = Page(replace(drifted, record=record).page()).text
    assert re.search(r"further from digits/1 than the policy.s margins allow\.", text)
    assert "retraining moves it" not in text


def test_the_headline_states_change_floor_policy_run_and_date(drifted, page):
    for fact in ("retrain", "Tier B, K = 5", "gradcam, shap", "3f0c9b1e5d7a4c3f", "2026-11-21 12:44:09 UTC"):
        assert fact in page.text.partition("Predictions")[0]
    assert drifted.record.report.policy_digest in page.text.partition("Predictions")[0]


def test_accuracy_of_both_versions_the_floor_and_flips_are_shown(page):
    part = page.text.partition("How far the evidence moved")[0]
    for fact in ("90.0 %", "93.0 %", "90.5 % to 92.5 %", "3 (12.5 %)"):
        assert fact in part


def test_every_number_of_every_finding_is_in_its_table(drifted, page):
    for finding in drifted.record.report.findings:
        measured = finding.measurement
        cells = [number(measured.value), f"{number(measured.lower)} to {number(measured.upper)}", number(finding.bound)]
        cells += [number(finding.margin), number(finding.limit), chance(finding.p_value), finding.verdict.value]
        cells += [str(measured.n), str(measured.undefined)]
        row = measured.statistic.replace("_", " ").capitalize() + "".join(cells)
        assert row in page.text, measured
        assert finding.reason[1:] in page.text


def test_every_statistic_has_a_strip_that_says_what_it_shows(drifted, page):
    drawings = page.all("svg")
    assert len(drawings) == len(drifted.record.report.findings)
    for drawing, finding in zip(drawings, drifted.record.report.findings, strict=True):
        assert drawing["role"] == "img"
        for value in (finding.measurement.value, finding.limit, max(finding.measurement.floor.distances)):
            assert number(value) in drawing["aria-label"]
        assert "5 reference retrains" in drawing["aria-label"]
    assert len(page.all("circle")) == 5 * len(drawings)


def test_a_hostile_name_is_shown_and_never_run():
    audit = make_audit(moved=True, name=EVIL, samples={row: f"{EVIL_SAMPLE}{row}" for row in range(COUNT)})
    audit.record = replace(
        audit.record,
        environment={EVIL: EVIL},
        explainers=({"name": EVIL, "parameters": {EVIL: EVIL}},),
        run={"run_id": EVIL, "time": EVIL},
        change=EVIL,
        report=replace(audit.record.report, reason=EVIL),
    )
    html = audit.page()
    page = Page(html)
    require_harmless(page)
    assert f"{EVIL}/7" in page.text
    assert '"><img src=x onerror=alert(1)>' in page.text
    assert "\u202e" not in html, "a name must not turn the direction of writing"
    assert "\\u202egnp.exe" in page.text


def test_every_digest_of_the_record_is_on_the_page(drifted, page):
    digests = {text for _, text in flat(drifted.record.document()) if text.startswith("sha256:")}
    assert len(digests) == 7 + 14 + 1 + 1, "weights of seven versions, two maps of each, slice, policy"
    for digest in digests:
        assert digest in page.text


def test_what_is_not_claimed_settings_and_versions_are_on_the_page(drifted, page):
    for claim in drifted.record.not_claimed:
        assert claim in page.text
    for fact in ("parameters.layerblocks.3", "settings.resamples2000", "torch2.15.0", "margins.coherent_shift0.05"):
        assert fact in page.text
    assert len(page.all("details")) == 1


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
    distances = image_distances(*maps, Settings())
    expected = [maps[0].sample_ids[row] for row in np.argsort(-distances, kind="stable")[:8]]
    shown = [each["alt"] for each in page.all("img") if each["alt"].startswith("gradcam map of the reference for")]
    assert shown == [f"gradcam map of the reference for image {sample}" for sample in expected]
    row = int(np.nanargmax(distances))
    label = drifted.slices["validation"].labels[row]
    assert f"{expected[0]}distance {distances[row]:.3f}, label {label}, map explains class {label}" in page.text


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
    places = [text.index(each) for each in ("Notice", "How far the evidence", "Extra for digits/7", "The images that")]
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
    facts |= {"distances": (0.1, 0.12, 0.15)} | changes
    floor = NoiseFloor(facts["distances"], tuple(str(row) for row in range(len(facts["distances"]))))
    measured = Measurement(
        "s",
        "gradcam",
        "rank_distance",
        facts["value"],
        facts["lower"],
        facts["upper"],
        facts["ceiling"],
        24,
        0,
        True,
        floor,
    )
    return Finding(measured, None, None, facts["limit"], None, Verdict.INCONCLUSIVE, False, "")


def test_a_strip_puts_everything_in_its_order():
    strip = strip_of(finding_of())
    assert strip.end == 0.5
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
    assert strip.end == 1.0
    assert strip.limit is None


def test_a_strip_without_a_value_or_a_floor_is_empty():
    nothing = float("nan")
    strip = strip_of(finding_of(value=nothing, lower=nothing, upper=nothing, limit=None, distances=()))
    assert (strip.end, strip.dots, strip.limit, strip.value) == (1.0, (), None, None)


def test_a_finding_without_a_value_is_drawn_and_said(drifted):
    nothing = float("nan")
    first, *others = drifted.record.report.findings
    unknown = replace(first.measurement, value=nothing, lower=nothing, upper=nothing, n=0, floor=NoiseFloor())
    finding = replace(first, measurement=unknown, bound=None, limit=None, p_value=None, verdict=Verdict.INCONCLUSIVE)
    report = replace(drifted.record.report, findings=(finding, *others))
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
    assert dict(flat({"a": {"b": (1, 2), "c": None}, "d": [], "e": [{"f": 3}]})) == {
        "a.b": "1, 2",
        "a.c": NOTHING,
        "d": NOTHING,
        "e.0.f": "3",
    }
