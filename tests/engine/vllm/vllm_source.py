"""Reads names and signatures from the source of a vLLM release without importing it.

The release is the installed one, or an unpacked wheel, which need not run on this machine.
"""

from __future__ import annotations

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path


class MissingName(Exception):
    """A release does not have a name."""


class VllmSource:
    """The Python source of a release.

    Args:
        root: The folder that contains the package `vllm`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def installed(cls) -> VllmSource | None:
        """Return the installed release, None if there is none."""
        spec = find_spec("vllm")
        return None if spec is None or spec.origin is None else cls(Path(spec.origin).parents[1])

    def parameters(self, path: str) -> list[str]:
        """Return the names of a function's parameters in order, those of a class's `__init__` without `self`."""
        node = self._node(path)
        if isinstance(node, ast.ClassDef):
            return self.parameters(f"{path}.__init__")[1:]
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            raise MissingName(f"{path} is not a function")
        arguments = node.args
        return [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]

    def members(self, path: str) -> set[str]:
        """Return the fields, methods and nested names of a class, or the names defined or imported in a module."""
        return _defined(self._node(path))

    def source(self, path: str) -> str:
        """Return the source of a class or function, formatted the same in every release."""
        return ast.unparse(self._node(path))

    def _node(self, path: str) -> ast.AST:
        module, _, names = path.partition(":")
        node: ast.AST = _parse(self._file(module))
        for name in filter(None, names.split(".")):
            inner = (child for child in _statements(node) if _is_definition(child, name))
            match = next(inner, None)
            if match is None:
                raise MissingName(f"{path}: {name} is not defined")
            node = match
        return node

    def _file(self, module: str) -> Path:
        path = self.root.joinpath(*module.split("."))
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file
        raise MissingName(f"there is no module {module}")


@cache
def _parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _statements(node: ast.AST) -> list[ast.stmt]:
    """Return the statements of a module or class, also those under `if` and `try`."""
    statements: list[ast.stmt] = []
    for field in ("body", "orelse", "handlers", "finalbody"):
        for child in getattr(node, field, ()):
            statements.append(child)
            if isinstance(child, (ast.If, ast.Try)):
                statements += _statements(child)
    return statements


def _is_definition(node: ast.stmt, name: str) -> bool:
    return isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name


def _defined(node: ast.AST) -> set[str]:
    names: set[str] = set()
    for child in _statements(node):
        match child:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case ast.Assign(targets=targets):
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
            case ast.ImportFrom(names=imported) | ast.Import(names=imported):
                names |= {alias.asname or alias.name for alias in imported}
            case _:
                pass
    return names
