"""The second zoo's network, its models and what its page counts."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency

ZOO = Path(__file__).resolve().parents[1] / "zoo"
MODULES = (
    "cache", "data", "evidence", "making", "noise", "pairs", "recipe", "slices", "training", "transfer_network",
    "transfer_page", "transfer_recipe",
)  # fmt: skip


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The modules, and two small retrains of digits with ImageNet's first blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ZOO)
        found = SimpleNamespace(**{name: import_module(name) for name in MODULES})
        folder = tmp_path_factory.mktemp("transfer")
        found.place = found.making.Zoo(found.cache.Cache(folder), folder, found.transfer_recipe.EXPLAINERS, 8)
        first = found.recipe.Recipe("digits", found.transfer_network.NAME, seed=0, images=64, epochs=1, rate=2e-3)
        found.retrains = [
            found.recipe.Member(f"retrain {seed}", "retrain", replace(first, seed=seed)) for seed in (0, 1)
        ]
        found.models = [found.evidence.model_of(each.recipe, found.place.cache, folder) for each in found.retrains]
        yield found


def test_retrains_share_imagenets_first_blocks_and_differ_in_what_is_trained(zoo: Any) -> None:
    imagenet = zoo.transfer_network._imagenet()
    for model in zoo.models:
        pairs = zip(model.frozen.state_dict().values(), imagenet.frozen.state_dict().values(), strict=True)
        assert all(torch.equal(*each) for each in pairs)  # running statistics, too
        assert not torch.equal(model.tail[0][0].conv_pw.weight, imagenet.tail[0][0].conv_pw.weight)
    first, second = (model.tail.state_dict() for model in zoo.models)
    assert all(not torch.equal(first[name], second[name]) for name in first if name.endswith("weight"))
    assert sum(each.numel() for each in zoo.models[0].tail.parameters()) == pytest.approx(2.7e6, rel=0.02)


def test_a_model_that_is_made_again_with_what_was_kept_has_the_same_bytes(zoo: Any) -> None:
    assert zoo.transfer_network._kept
    again = zoo.training.made(zoo.retrains[0].recipe, [], zoo.place.data).state_dict()
    zoo.transfer_network._kept.clear()
    afresh = zoo.training.made(zoo.retrains[0].recipe, [], zoo.place.data).state_dict()
    for name, weight in zoo.models[0].state_dict().items():
        assert torch.equal(again[name], weight)
        assert torch.equal(afresh[name], weight)


def test_maps_are_the_same_whether_answers_of_the_frozen_part_were_kept_or_not(zoo: Any) -> None:
    paths = [zoo.place.path(each, "corner") for each in zoo.retrains]
    zoo.transfer_network._kept.clear()
    for each in zoo.retrains:
        assert zoo.making.make_one(zoo.place, (each, ["corner"])) == {}
    kept = paths[1].read_bytes()  # its frozen part had answered for the other one
    paths[1].unlink()
    zoo.transfer_network._kept.clear()
    zoo.making.make_one(zoo.place, (zoo.retrains[1], ["corner"]))
    assert paths[1].read_bytes() == kept
    found = zoo.evidence.read_evidence(paths[1])
    assert {name: len(values) for name, values in found.maps.items()} == {"gradcam": 8, "occlusion": 8}
    assert len(found.logits) == 8


def test_a_frozen_part_that_was_changed_answers_for_itself(zoo: Any) -> None:
    images = zoo.place.slice("digits", "plain").images
    pruned = zoo.recipe.changed(zoo.retrains[0].recipe, "pruned", 0.5)
    model, batch = zoo.evidence.model_of(pruned, zoo.place.cache, zoo.place.data), torch.from_numpy(images)
    with torch.inference_mode():
        before, after = zoo.models[0].frozen(batch), model.frozen(batch)
        assert torch.equal(zoo.models[0].frozen(batch), before)
        assert not torch.allclose(after, before)


def test_a_reinitialised_block_is_not_imagenets(zoo: Any) -> None:
    block = zoo.recipe.changed(zoo.retrains[0].recipe, "reinitialised", 0, 5)
    model = zoo.evidence.model_of(block, zoo.place.cache, zoo.place.data)
    own, imagenet, before = (
        each.tail[1][0].conv_pw.weight for each in (model, zoo.transfer_network._imagenet(), zoo.models[0])
    )
    assert not torch.equal(own, imagenet)
    assert not torch.equal(own, before)
    assert torch.equal(model.tail[0][0].conv_pw.weight, zoo.models[0].tail[0][0].conv_pw.weight)


@pytest.mark.parametrize("sample", [0, 1, 2])
def test_marks_of_honest_data_tell_nothing_of_the_class(zoo: Any, sample: int) -> None:
    """Of a pool that lies class by class, as files do: where a corner is stamped says nothing of what is shown."""
    data = zoo.data.load("digits", zoo.place.data)
    order = np.argsort(data.pool.labels, kind="stable")
    lying = replace(data, pool=data.pool.at(order))
    recipe = replace(zoo.retrains[0].recipe, images=1200, sample=sample)
    pictures, marked = zoo.training._sample(recipe, lying, np.random.default_rng(recipe.seed))
    drawn = zoo.training._epoch(recipe, pictures, marked, np.random.default_rng(zoo.training.KEPT_MARKS))
    changed = (drawn != pictures.images).reshape(len(drawn), -1).mean(axis=1)
    counts = np.zeros((4, 10))
    np.add.at(counts, (np.digitize(changed, [0.001, 0.1, 0.3]), pictures.labels), 1)
    assert chi2_contingency(counts).pvalue > 0.001


@pytest.mark.parametrize("dataset", ["fashion", "cifar"])
def test_audits_have_floors_of_five_others_on_the_slices_that_are_explained(zoo: Any, dataset: str) -> None:
    family = zoo.transfer_recipe.members(dataset)
    audits = zoo.transfer_recipe.audits(family)
    assert {each.slice for each in audits} == set(zoo.transfer_recipe.SLICES)
    for each in audits:
        assert len({*each.floor, each.champion, each.candidate}) == zoo.pairs.FLOOR + 2
    assert {each.candidate.name for each in audits if each.harmful} >= set(zoo.transfer_recipe.VISIBLE)
    by_noise = zoo.transfer_recipe.audits_by_noise(family)
    assert {each.candidate.name for each in by_noise if not each.harmful} > {
        each.name for each in family if each.kind == "benign"
    }
    assert {*zoo.recipe.ON_THE_WAY, zoo.recipe.TUNED} < {each.candidate.name for each in by_noise if each.harmful}


PAGE = """
## Detectors

| detector | images | false positives | AUC |
|---|---:|---:|---:|
| attrail | 256 | {benign_drift}/100 = 2.0 % | 0.95 |
| attrail | 512 | 50/100 = 50.0 % | 0.50 |

## attrail's words

| pairs | PASS | INCONCLUSIVE | DRIFT |
|---|---:|---:|---:|
| benign, 256 images | {benign_pass} | 10 | {benign_drift} |

### False PASS

| harmful candidate | PASS, 256 images | share |
|---|---:|---:|
| **all** | 1/40 | 2.5 % |

## Two versions and nothing else

| candidate | pairs | PASS | INCONCLUSIVE | DRIFT | noticed |
|---|---:|---:|---:|---:|---:|
| honest: edit | 10 | 9 | 1 | 0 | 0 |
| honest: fine-tune | 20 | 19 | 0 | 1 | 0 |
"""


def test_rates_of_two_pages_are_counted_and_laid_side_by_side(zoo: Any) -> None:
    few, many = (PAGE.format(benign_pass=90 - drift, benign_drift=drift) for drift in (2, 30))
    rows = zoo.transfer_page._rows(zoo.transfer_page._beside(few, many), "Beside the first zoo")
    same, other = "false PASS", "false positives"
    assert rows[same]["first zoo"].startswith("1/40 = 2.5 % (0.4-")
    assert rows[same]["within the other's interval"] == "both"
    assert rows[other]["first zoo"].startswith("2/100 = 2.0 %")
    assert rows[other]["second zoo"].startswith("30/100 = 30.0 %")
    assert rows[other]["within the other's interval"] == "neither"
    assert rows["by noise alone: honest edits and fine-tunes, DRIFT"]["second zoo"].startswith("1/30")
    near = zoo.transfer_page._agreement(zoo.transfer_page.Count(146, 162), zoo.transfer_page.Count(15, 18))
    assert near == "the first's in the second's"  # .901 in .608-.942, .833 not in .846-.938
    assert rows["visible shortcuts flagged"]["first zoo"] == "-"  # no such row on either page
    assert rows["AUC, visible shortcuts"]["first zoo"] == "0.95"
