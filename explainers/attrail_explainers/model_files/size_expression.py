"""Expressions of sizes in an exported program: sums and products of numbers and symbols, which torch hands to eval."""

import ast
import re

SYMBOL = re.compile(r"[a-z]{1,4}\d{1,6}")
NUMBER = re.compile(r"-?[\d.e+-]{1,40}")
LONGEST = 2000  # characters
POWERS = ("FloatPow", "LShift", "Pow", "PowByNatural")  # the last of their arguments is an exponent
LARGEST_EXPONENT = 64
MOST_POWERS = 2  # powers of powers take for ever
CALLS = {
    *("Abs", "Add", "And", "CeilDiv", "CeilToInt", "CleanDiv", "Equality", "Float", "FloatTrueDiv", "FloorDiv"),
    *("FloorToInt", "GreaterThan", "Identity", "IntTrueDiv", "Integer", "LessThan", "Max", "Min", "Mod", "Mul"),
    *("ModularIndexing", "Not", "Or", "PythonMod", "RShift", "Rational", "RoundDecimal", "RoundToInt", "Symbol"),
    *("StrictGreaterThan", "StrictLessThan", "ToFloat", "TruncToFloat", "TruncToInt", "Unequality", "Where"),
    *("ceiling", "floor", *POWERS),
}


def is_size(text: str) -> bool:
    """Whether a text is such an expression, as sympy's ``srepr`` writes it or as people do, and quick to work out."""
    if len(text) > LONGEST or sum(text.count(power) for power in (*POWERS, "**", "<<")) > MOST_POWERS:
        return False
    try:
        return _is_size(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _is_size(node: ast.expr) -> bool:  # noqa: PLR0911 - one for each kind of expression
    match node:
        case ast.Constant(value=int() | float() as number):
            return abs(number) < 2**63
        case ast.Name(id=name):
            return bool(SYMBOL.fullmatch(name)) or name in {"true", "false"}
        case ast.UnaryOp(operand=operand):
            return _is_size(operand)
        case ast.BinOp(left=left, op=ast.Pow() | ast.LShift(), right=right):
            return _is_size(left) and _is_exponent(right)
        case ast.BinOp(left=left, right=right):
            return _is_size(left) and _is_size(right)
        case ast.Compare(left=left, comparators=others):
            return all(_is_size(each) for each in (left, *others))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords) if name in CALLS:
            plain = all(each.arg and isinstance(each.value, ast.Constant) for each in keywords)
            return plain and _are_arguments(name, arguments)
    return False


def _are_arguments(name: str, arguments: list[ast.expr]) -> bool:
    match name, arguments:
        case "Symbol", [ast.Constant(value=str() as symbol)]:
            return bool(SYMBOL.fullmatch(symbol))
        case "Float", [ast.Constant(value=str() as number)]:
            return bool(NUMBER.fullmatch(number))
        case _, [*others, exponent] if name in POWERS:
            return all(_is_size(each) for each in others) and _is_exponent(exponent)
    return all(_is_size(each) for each in arguments)


def _is_exponent(node: ast.expr) -> bool:
    match node:
        case ast.Constant(value=int() | float() as number):
            return abs(number) <= LARGEST_EXPONENT
        case ast.UnaryOp(operand=inner) | ast.Call(func=ast.Name(id="Integer"), args=[inner], keywords=[]):
            return _is_exponent(inner)
        case ast.Call(func=ast.Name(id="Rational"), args=[above, below], keywords=[]):
            return _is_exponent(above) and _is_exponent(below)
    return False
