"""Which kind of machine computes: another instruction set rounds otherwise, and its bytes cannot be made here."""

import platform
from typing import Any

import torch

from attrail_explainers.digest import digest_of


def machine_of(device: torch.device) -> str:
    """The kind of machine that a device belongs to, in a few words and a digest; equal bytes come of equal kinds alone.

    A GPU is its model and compute capability. A processor is its architecture and name, the instructions torch's own
    kernels take (``ATEN_CPU_CAPABILITY``), and a digest of all it has, as oneDNN and MKL choose by these: without AVX2
    logits move by 5e-6 and saliency by .05.
    """
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return f"{torch.cuda.get_device_name(device)}, sm_{major}{minor}"
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    has = digest_of({name: value for name, value in known.items() if isinstance(value, bool)})
    name, kernels = known.get("cpu_name", "unknown processor"), torch.backends.cpu.get_cpu_capability()
    return f"{platform.machine()}, {name}, {kernels}, {has.removeprefix('sha256:')[:12]}"
