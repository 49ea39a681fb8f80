"""What a module is, as digests for content keys: its weights, and its structure with the code of its classes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from types import CodeType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

OF_LIBRARIES = ("torch.", "torch", "builtins", "typing", "abc")
"""Whose classes count by their names: the content key has torch's version."""
PLAIN = (bool, int, float, complex, str, bytes, type(None))
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")


def of_arrays(*arrays: Any) -> str:
    """SHA-256 of numpy arrays: types, shapes and bytes."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.dtype} {array.shape}\n".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def of_state(module: nn.Module) -> str:
    """SHA-256 of all parameters and buffers by name, those that no checkpoint keeps too."""
    total = hashlib.sha256()
    for name, tensor in sorted([*module.named_parameters(), *module.named_buffers()]):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(_bytes(tensor))
    return total.hexdigest()


def _bytes(tensor: Any) -> bytes:
    import torch

    tensor = tensor.detach()
    dense = tensor if tensor.layout is torch.strided else tensor.to_dense()
    found: bytes = dense.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return found


def of_structure(module: nn.Module) -> str:
    """SHA-256 of every part: its class with the class's code, and what it keeps beside tensors.

    Code that a class calls elsewhere, and objects that are neither numbers, texts nor functions, are not seen.
    """
    total = hashlib.sha256()
    codes: dict[type, str] = {}
    for name, part in module.named_modules():
        kind = type(part)
        if kind not in codes:
            codes[kind] = of_class(kind)
        kept = {key: _told(value) for key, value in sorted(vars(part).items()) if _counts(key)}
        hooks = [_told(hook) for where in _HOOKS for hook in vars(part).get(where, {}).values()]
        script = getattr(part, "code", "") if kind.__module__.startswith(OF_LIBRARIES) else ""
        total.update(f"{name} {codes[kind]} {part.extra_repr()} {kept} {hooks} {script}\n".encode())
    return total.hexdigest()


def of_class(kind: type) -> str:
    """SHA-256 of the byte code of a class and of what it inherits, as far as it is not torch's or Python's."""
    lines = []
    for one in kind.__mro__:
        lines.append(f"{one.__module__.replace('__main__', '')}.{one.__qualname__}")
        if one.__module__.split(".")[0] not in OF_LIBRARIES:
            lines += [f"{key} {_told(value)}" for key, value in sorted(vars(one).items()) if not _made_by_python(key)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _counts(key: str) -> bool:
    return not key.startswith("_") and key != "training"


def _made_by_python(key: str) -> bool:
    return key in ("__dict__", "__weakref__", "__module__", "__doc__", "__firstlineno__", "__static_attributes__")


def _told(value: Any) -> str:
    """A value as text that is the same in every process; of objects only what they are."""
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({', '.join(map(_told, value))})"
    if isinstance(value, set | frozenset):
        return f"set({', '.join(sorted(map(_told, value)))})"
    if isinstance(value, dict):
        return f"dict({', '.join(f'{_told(key)}: {_told(item)}' for key, item in value.items())})"
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    if isinstance(value, property):
        return f"property({_told(value.fget)})"
    code = getattr(value, "__code__", None)
    if isinstance(code, CodeType):
        cells = [_contents(cell) for cell in getattr(value, "__closure__", None) or ()]
        return "\n".join([*_lines(code), _told(getattr(value, "__defaults__", None)), *cells])
    if hasattr(value, "detach") and hasattr(value, "layout"):
        return f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(_bytes(value)).hexdigest()}"
    if hasattr(value, "tobytes") and hasattr(value, "dtype"):
        return of_arrays(value)
    name = getattr(value, "__qualname__", type(value).__qualname__)
    return f"{type(value).__name__} {name}"


def _contents(cell: Any) -> str:
    try:
        found = cell.cell_contents
    except ValueError:  # not filled yet
        return "empty"
    return repr(found) if isinstance(found, PLAIN) else type(found).__name__


def _lines(code: CodeType) -> Iterator[str]:
    yield f"{code.co_name} {code.co_code.hex()} {code.co_names} {code.co_varnames}"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _lines(constant)
        else:
            yield _told(constant)
