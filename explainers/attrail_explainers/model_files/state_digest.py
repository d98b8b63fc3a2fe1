"""The digest of a module's state: every entry of ``state_dict``, tensors or whatever else layers keep there."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attrail_explainers.digest import digest_of_arrays
from attrail_explainers.errors import UnsupportedModelError

Named = Iterator[tuple[str, NDArray[Any]]]
PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.qscheme)


def digest_of_state(state: Mapping[str, Any], label: str) -> str:
    """Digest over the sorted names: dtype, shape and bytes of tensors; plain values and containers of them as text.

    Quantized layers keep tuples and dtypes in their state, ``get_extra_state`` anything. Raises UnsupportedModelError,
    which names the model by ``label``, for a value of another kind: what is in it cannot be known.
    """
    return digest_of_arrays(array for name in sorted(state) for array in _arrays(name, state[name], label))


def _arrays(name: str, value: Any, label: str) -> Named:
    if isinstance(value, torch.Tensor):
        yield from _tensor(name, value, label)
    elif isinstance(value, np.ndarray) and value.dtype != object:
        yield name, value
    elif isinstance(value, Mapping):
        yield _text(name, f"mapping of {len(value)}")
        for key in sorted(value, key=repr):
            yield from _arrays(f"{name}[{key!r}]", value[key], label)
    elif isinstance(value, list | tuple):
        yield _text(name, f"sequence of {len(value)}")
        for place, each in enumerate(value):
            yield from _arrays(f"{name}[{place}]", each, label)
    elif isinstance(value, PLAIN):
        yield _text(name, f"{type(value).__name__} {value!r}")
    else:
        raise UnsupportedModelError(
            f"model {label}: {name} in its state holds {type(value).__name__}, expected tensors, plain values or "
            "containers of them; let get_extra_state give these, or log the model in MLflow's default pt2 format"
        )


def _tensor(name: str, tensor: torch.Tensor, label: str) -> Named:
    """A tensor as an array; dtypes NumPy lacks (bfloat16, float8) as their bytes, quantized ones with their scales."""
    if tensor.is_meta:
        raise UnsupportedModelError(f"model {label}: {name} has no values (device meta): load its weights first")
    tensor = tensor.detach().cpu()
    if tensor.is_quantized:
        yield name, tensor.int_repr().numpy()
        yield from _arrays(f"{name}.quantizer", _quantizer(tensor), label)
    elif hasattr(tensor, "__tensor_flatten__"):
        inner, context = tensor.__tensor_flatten__()
        yield from _arrays(f"{name}.inner", {each: getattr(tensor, each) for each in inner}, label)
        yield _text(f"{name}.context", repr(context))
    else:
        yield name, _dense(tensor)


def _dense(tensor: torch.Tensor) -> NDArray[Any]:
    plain = tensor.to_dense() if tensor.layout != torch.strided else tensor
    plain = plain.resolve_conj().resolve_neg().contiguous()
    try:
        return np.asarray(plain.numpy())
    except TypeError:
        return np.asarray(plain.reshape(plain.shape or (1,)).view(torch.uint8).numpy())


def _quantizer(tensor: torch.Tensor) -> list[Any]:
    if tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return [str(tensor.dtype), tensor.q_scale(), tensor.q_zero_point()]
    scales, zeros = tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()
    return [str(tensor.dtype), scales, zeros, tensor.q_per_channel_axis()]


def _text(name: str, text: str) -> tuple[str, NDArray[Any]]:
    return name, np.frombuffer(text.encode(), dtype=np.uint8)
