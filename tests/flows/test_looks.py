"""Looks: an audit stops when it knows, says at which look, and what it computed for one look serves the next."""

import json
from collections.abc import Callable

import pandas as pd

Run = Callable[..., tuple[int, str, str]]
GRADCAM = '[[explainer]]\nname = "gradcam"'


def looked(attrail: Run, workplace, candidate: str, looks: list[int], **policy: object) -> tuple[dict, str]:
    result = workplace.folder / "result.json"
    text = "\n".join(f"{name} = {json.dumps(value)}" for name, value in {"looks": looks, **policy}.items())
    config = workplace.config(explainers=GRADCAM, policy=text)
    status, out, err = attrail("audit", "--config", config, "--candidate", candidate, "--json", result)
    assert status in (0, 1, 3), err
    return json.loads(result.read_text()), out + err


def test_an_audit_that_knows_stops_at_its_first_look(attrail: Run, workplace) -> None:
    record, said = looked(attrail, workplace, "8", [32])
    assert record["verdict"] == "DRIFT"
    assert record["look"] == {"number": 1, "planned": 2, "images": 32, "alpha": record["look"]["alpha"]}
    assert 0 < record["look"]["alpha"] < record["policy"]["alpha"] == 0.05
    (slice_,) = record["slices"]
    assert slice_["images"] == 32
    assert "look 1 of 2: the first 32 images of each slice" in said
    run = workplace.runs()[0]
    kept = pd.read_csv(f"{run.info.artifact_uri}/attrail/slices/validation.csv")
    whole = pd.read_csv(workplace.folder / "slices" / "validation.csv")
    assert len(kept) == 32
    assert set(kept["image"]) < set(whole["image"])
    assert list(kept["image"]) != list(whole["image"][:32])  # drawn, not the first rows of the file
    again, _ = looked(attrail, workplace, "8", [32])
    assert again["slices"] == record["slices"]
    assert again["measurements"] == record["measurements"]


def test_one_that_does_not_know_looks_at_all_images_and_computes_none_twice(attrail: Run, workplace) -> None:
    """Too few images for any verdict at every look: each shard of a map is still computed once."""
    record, said = looked(attrail, workplace, "7", [12, 24], fewest_images=1000)
    assert record["verdict"] == "INCONCLUSIVE"
    assert (record["look"]["number"], record["look"]["images"]) == (3, 48)
    assert record["slices"][0]["images"] == 48
    assert "look 3 of 3: the first 48 images" in said
    made = record["made_in"]["validation/gradcam/digits/7"]
    assert sum(made.values()) == 3  # 0 to 12, 12 to 24 and 24 to 48, each in the run that computed it
    assert len(made) == 3


def test_without_looks_the_record_has_none_and_the_order_is_the_files(attrail: Run, workplace) -> None:
    record, said = looked(attrail, workplace, "7", [])
    assert record["look"] is None
    assert "look 1" not in said
    kept = pd.read_csv(f"{workplace.runs()[0].info.artifact_uri}/attrail/slices/validation.csv")
    whole = pd.read_csv(workplace.folder / "slices" / "validation.csv")
    assert list(kept["image"]) == list(whole["image"])


def test_a_calibration_is_there_for_every_look(attrail: Run, workplace) -> None:
    config = workplace.config(explainers=GRADCAM, policy="looks = [20]\nseed = 5")
    before = len(workplace.calibrations())
    status, _, err = attrail("calibrate", "--config", config)
    assert status == 0, err
    assert len(workplace.calibrations()) == before + 2
    status, _, err = attrail("audit", "--config", config)
    assert status in (0, 1, 3), err
    assert len(workplace.calibrations()) == before + 2
