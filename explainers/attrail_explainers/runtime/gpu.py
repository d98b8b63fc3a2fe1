"""The GPUs that torch can compute on here."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Gpus:
    """Names of the devices that took a computation, the CUDA version torch was built for, and what went wrong."""

    names: tuple[str, ...]
    cuda: str | None
    trouble: str = ""


def find_gpus() -> Gpus:
    """Let every device that torch knows add two numbers; one that is merely listed would fail in an audit."""
    names: list[str] = []
    try:
        for index in range(torch.cuda.device_count()):
            torch.ones(2, device=f"cuda:{index}").sum().item()
            names.append(torch.cuda.get_device_name(index))
    except RuntimeError as error:
        return Gpus(tuple(names), torch.version.cuda, str(error).partition("\n")[0])
    return Gpus(tuple(names), torch.version.cuda)
