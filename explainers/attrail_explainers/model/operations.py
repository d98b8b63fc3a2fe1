"""Operations of torch by one name each, whatever form they are called in."""

from collections.abc import Mapping
from typing import Any

# Nonlinear functions of each number alone; further arguments are fixed.
ELEMENTWISE = frozenset(
    """relu relu6 hardtanh clamp clamp_min clamp_max threshold leaky_relu prelu elu selu celu silu gelu mish hardswish
    sigmoid hardsigmoid log_sigmoid tanh softplus softsign exp expm1 log log1p sqrt rsqrt reciprocal square pow rpow
    abs erf sin cos""".split()  # noqa: SIM905 - a list of names, not of lines
)


# Linear in each of their two factors.
PRODUCTS = frozenset({"mul", "matmul", "bmm", "mm"})


# Layers with weights, by where their outputs' channels are: the last dimension, or that after the images.
LINEAR = frozenset({"linear", "addmm"})


CONVOLUTIONS = frozenset({"conv1d", "conv2d", "conv3d", "convolution", "conv_transpose1d", "conv_transpose2d"})


ALIASES = {
    **dict.fromkeys(("rmul", "imul", "multiply"), "mul"),
    **dict.fromkeys(("truediv", "itruediv", "idiv", "true_divide", "divide"), "div"),
    **dict.fromkeys(("rtruediv",), "rdiv"),
    **dict.fromkeys(("clip",), "clamp"),
    **dict.fromkeys(("ipow",), "pow"),
    **dict.fromkeys(("logsigmoid",), "log_sigmoid"),
    **dict.fromkeys(("imatmul",), "matmul"),
}


def operation(function: Any, kwargs: Mapping[str, Any]) -> tuple[str, bool]:
    """The operation's name, whatever form it is called in, and whether it overwrites its first argument."""
    form = str(getattr(function, "__name__", "")).partition(".")[0]
    name = form.strip("_")
    in_place = form.startswith("__i") or (form.endswith("_") and not form.endswith("__"))
    return ALIASES.get(name, name), in_place or kwargs.get("inplace") is True
