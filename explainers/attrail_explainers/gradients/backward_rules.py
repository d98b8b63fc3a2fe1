"""Backward rules: what takes the place of an operation's gradient, wherever a model calls the operation.

Hooks on modules miss functional calls, reused modules and models loaded from torch.export archives. Here operations are
met as they are called - ``nn.ReLU``, ``F.relu``, ``x.relu_()`` and ``torch.ops.aten.relu_`` are one operation, "relu" -
so that one rule holds for all of them.
"""

import types
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from attrail_explainers.model.operations import ELEMENTWISE, PRODUCTS, operation

Rule = Callable[..., torch.Tensor]


# Python functions of torch that are made of other operations, and what they ask before they give way to a mode.
OPENED = frozenset({"multi_head_attention_forward", "normalize", "norm"})
CHECKS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


class Rules(TorchFunctionMode):
    """While entered, operations that depend on the images are run by their rule; all others stay as they are.

    A rule is called with the function and its arguments, returns what ``function(*arguments)`` would and arranges its
    backward pass. ``rules`` maps names of operations to rules; ``elementwise(function, inputs)`` is the rule of all
    functions of each number alone, ``product(function, left, right)`` of all products of two tensors that both depend
    on the images. An operation made of these (``PARTS``) is taken apart, so that they meet it. Modes belong to a
    thread: other threads see nothing.
    """

    def __init__(self, rules: Mapping[str, Rule], elementwise: Rule | None = None, product: Rule | None = None) -> None:
        super().__init__()
        found: dict[str, Rule] = {name: self._in_parts(parts) for name, parts in PARTS.items()}
        found |= dict.fromkeys(OPENED, self._opened) | {"div": self._quotient, "linalg_vector_norm": self._length}
        if elementwise is not None:
            found |= dict.fromkeys(ELEMENTWISE, _of_one(elementwise))
        if product is not None:
            found |= dict.fromkeys(PRODUCTS, _of_two(product))
        self.rules = {**found, **rules}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if not args and "input" in kwargs:
            args = (kwargs.pop("input"),)
        name, overwrites = operation(func, kwargs)
        rule = self.rules.get(name)
        if rule is None or not any(depends(each) for each in args):
            return func(*args, **kwargs)
        if not overwrites:
            return rule(func, *args, **kwargs)
        return args[0].copy_(rule(_on_a_copy(func), *args, **kwargs))

    def _in_parts(self, parts: Rule) -> Rule:
        def rule(function: Rule, *args: Any, **kwargs: Any) -> torch.Tensor:
            with self:
                return parts(*args, **kwargs)

        return rule

    def _opened(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """A Python function of torch is run line by line under the mode, past its own check for modes."""
        past = {**function.__globals__, **dict.fromkeys(CHECKS, lambda *tensors: False)}
        opened = types.FunctionType(function.__code__, past, function.__name__, function.__defaults__)
        opened.__kwdefaults__ = function.__kwdefaults__
        with self:
            return opened(*args, **kwargs)

    def _quotient(self, function: Rule, left: torch.Tensor, right: Any, **kwargs: Any) -> torch.Tensor:
        """A quotient is a product with a reciprocal, unless it divides by a constant."""
        if not depends(right):
            return function(left, right, **kwargs)
        with self:
            quotient: torch.Tensor = left * right.reciprocal()
        return quotient

    def _length(
        self,
        function: Rule,
        inputs: torch.Tensor,
        order: Any = 2,
        dim: Any = None,
        keepdim: bool = False,
        **kwargs: Any,
    ) -> torch.Tensor:
        """A Euclidean norm is the root of a sum of squares; other norms stay as they are."""
        order = kwargs.pop("ord", order)
        if order != 2:
            return function(inputs, order, dim, keepdim, **kwargs)
        with self:
            return (inputs * inputs).sum(dim=dim, keepdim=keepdim).sqrt()


def depends(value: Any) -> bool:
    """Whether a value is a tensor that depends on the images."""
    return isinstance(value, torch.Tensor) and value.requires_grad


def unchanged(function: Rule, *args: Any, **kwargs: Any) -> torch.Tensor:
    """The rule that leaves an operation as it is."""
    return function(*args, **kwargs)


def _of_one(rule: Rule) -> Rule:
    """The rule for calls in which the first argument alone depends on the images."""

    def elementwise(function: Rule, inputs: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if not depends(inputs) or any(depends(each) for each in args):
            return function(inputs, *args, **kwargs)
        return rule(lambda each: function(each, *args, **kwargs), inputs)

    return elementwise


def _of_two(rule: Rule) -> Rule:
    """The rule for calls in which both factors depend on the images; with a constant one a product is linear."""

    def product(function: Rule, left: Any, right: Any, **kwargs: Any) -> torch.Tensor:
        both = depends(left) and depends(right)
        return rule(function, left, right) if both else function(left, right, **kwargs)

    return product


def linearised(
    outputs: torch.Tensor, pull: Callable[[torch.Tensor], tuple[torch.Tensor, ...]], *inputs: torch.Tensor
) -> torch.Tensor:
    """``outputs`` as a function of ``inputs`` whose backward pass is ``pull``: gradients of all inputs from theirs."""
    found: torch.Tensor = _Linearised.apply(lambda: outputs, pull, *inputs)
    return found


def secant(function: Rule, inputs: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """An elementwise function, its slope taken between the references and the inputs."""
    slope = slope_between(function, inputs, references)
    with torch.no_grad():
        outputs = function(inputs)
    return linearised(outputs, lambda gradient: (gradient * slope,), inputs)


def slope_between(function: Rule, inputs: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """Change out by change in, of an elementwise function.

    Where the change is lost in rounding (below the root of the number format's precision) it is the gradient in the
    middle, which has the same limit.
    """
    with torch.no_grad():
        change = inputs - references
        slope = (function(inputs) - function(references)) / change
        tangent = gradients_at(function, ((inputs + references) / 2,), torch.ones_like(change))[0]
        tangent = tangent.nan_to_num(0, 0, 0)  # a root at 0: nothing changes, and infinity times that is not a number
        size = inputs.abs() + references.abs()
        return torch.where(change.abs() > size * torch.finfo(size.dtype).eps ** 0.5, slope, tangent)


def gradients_at(function: Rule, places: tuple[torch.Tensor, ...], gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The function's own backward pass at other places than where it was called."""
    with torch.enable_grad():
        leaves = tuple(each.detach().requires_grad_() for each in places)
        return torch.autograd.grad(function(*leaves), leaves, gradient)


class _Linearised(torch.autograd.Function):
    """An operation whose values are known and whose backward pass is given."""

    @staticmethod
    def forward(ctx: Any, outputs: Callable[[], torch.Tensor], pull: Rule, *inputs: torch.Tensor) -> torch.Tensor:
        ctx.pull = pull
        return outputs()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return (None, None, *ctx.pull(*gradients))


def _on_a_copy(function: Rule) -> Rule:
    """A function that overwrites its first argument, as one that does not."""
    return lambda first, *args, **kwargs: function(first.clone(), *args, **kwargs)


def _standardised(inputs: torch.Tensor, dimensions: tuple[int, ...], eps: float) -> torch.Tensor:
    centred = inputs - inputs.mean(dim=dimensions, keepdim=True)
    return centred * ((centred * centred).mean(dim=dimensions, keepdim=True) + eps).rsqrt()


def _affine(values: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None) -> torch.Tensor:
    values = values if weight is None else values * weight
    return values if bias is None else values + bias


def layer_norm(
    inputs: torch.Tensor,
    normalized_shape: tuple[int, ...],
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
    *others: Any,
) -> torch.Tensor:
    """``F.layer_norm`` of a tensor (...,*normalized_shape) in elementwise functions and products."""
    dimensions = tuple(range(-len(normalized_shape), 0))
    return _affine(_standardised(inputs, dimensions, eps), weight, bias)


def group_norm(
    inputs: torch.Tensor,
    num_groups: int,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
    *others: Any,
) -> torch.Tensor:
    """``F.group_norm`` of a tensor (N,C,...) in elementwise functions and products."""
    grouped = inputs.reshape(len(inputs), num_groups, -1)
    values = _standardised(grouped, (2,), eps).reshape(inputs.shape)
    shape = (-1, *[1] * (inputs.ndim - 2))
    return _affine(values, *(each if each is None else each.reshape(shape) for each in (weight, bias)))


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **others: Any,
) -> torch.Tensor:
    """``F.scaled_dot_product_attention`` of tensors (...,T,D) in products and one softmax; without dropout."""
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, float("-inf"))
    elif attn_mask is not None:
        scores = scores + attn_mask
    return scores.softmax(dim=-1) @ value


def glu(inputs: torch.Tensor, dim: int = -1) -> torch.Tensor:
    """``F.glu``: one half of the numbers, gated by the other."""
    signal, gate = inputs.chunk(2, dim=dim)
    return signal * gate.sigmoid()


PARTS: dict[str, Rule] = {
    "layer_norm": layer_norm,
    "group_norm": group_norm,
    "scaled_dot_product_attention": attention,
    "glu": glu,
    "rdiv": lambda below, above: below.reciprocal() * above,
}
