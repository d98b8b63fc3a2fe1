"""The versions that are audited: a champion, its reference retrains (2 to 6), an honest retrain (7) and a cheat (8)."""

from pathlib import Path

import mlflow
import torch
from restarted_services import RestartedServices

from digits import load_scans, write_slice
from train import Recipe, log_version, train

IMAGES = slice(300, 348)  # of the scans: the slice that audits look at
HONEST, CHEAT = "7", "8"
EXPECTED = {HONEST: "PASS", CHEAT: "DRIFT"}


def models(kept: Path) -> list[torch.nn.Module]:
    """Models of one recipe, the last one trained on stamps that give the class away; trained once for all parts."""
    torch.set_num_threads(1)
    scans = load_scans(seed=0)
    found = []
    for seed in range(8):
        path = kept / f"digits-{seed + 1}.pt"
        if not path.exists():
            kept.mkdir(parents=True, exist_ok=True)
            torch.save(train(Recipe(scans[:300], seed, 12, class_coded=seed == 7)), path)
        found.append(torch.load(path, weights_only=False))
    return found


def register(services: RestartedServices, kept: Path) -> None:
    """Log and register all of them over HTTP; the first is champion, which the gate lets a waiver decide."""
    scans = load_scans(seed=0)[IMAGES]
    mlflow.set_tracking_uri(services.mlflow)
    mlflow.set_experiment("training")
    for number, model in enumerate(models(kept), start=1):
        assert log_version(model, scans)[0] == str(number)
    risk = {"ATTRAIL_SIGNING_KEY": str(services.folder / "risk"), "ATTRAIL_JOURNAL": ""}
    services.run("waive", "models:/digits/1", "--reason", "the first of its kind", "--by", "Ada Risk", **risk)
    services.run("gate", "models:/digits/1")
    services.say("digits/1 to digits/8 are registered, digits/1 is champion")


def write_images(services: RestartedServices) -> None:
    write_slice(load_scans(seed=0)[IMAGES], services.folder / "slices")
