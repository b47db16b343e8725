"""Which files of this package an import would load, found without importing: Amaranth's alone takes a second."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path


def imported(module: str, root: Path) -> dict[str, Path]:
    """The files that an import of `module` loads, of those in its top-level package, by module name.

    An import inside a function counts, one by a name that is put together at run time does not.

    Parameters
    ----------
    module : dotted name
    root : the folder that holds the top-level package

    Raises
    ------
    ModuleNotFoundError
        Where there is no such module.
    """
    top = module.partition(".")[0]
    found: dict[str, Path] = {}
    pending = [module]
    while pending:
        name = pending.pop()
        # An import runs the packages around a module, too; the outermost is the front door, which makes no hardware.
        for part in _with_packages(name)[1:]:
            if part in found:
                continue
            path = _path(part, root)
            if path is None:
                raise ModuleNotFoundError(f"there is no module {part} in {root}", name=part)
            found[part] = path
            pending += [other for other in _imports(part, path, root) if other.startswith(f"{top}.")]
    return dict(sorted(found.items()))


def _with_packages(name: str) -> list[str]:
    """A module's name after those of the packages around it, the outermost first."""
    parts = name.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def _path(name: str, root: Path) -> Path | None:
    place = root.joinpath(*name.split("."))
    candidates = (place / "__init__.py", place.with_name(f"{place.name}.py"))
    return next((path for path in candidates if path.is_file()), None)


def _imports(name: str, path: Path, root: Path) -> Iterator[str]:
    """The modules that a module's text names in its imports."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            around = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            origin = ".".join([*around, *([node.module] if node.module else [])])
            yield origin
            # `from package import name` imports a module where the package has one of that name.
            yield from (
                f"{origin}.{alias.name}" for alias in node.names if _path(f"{origin}.{alias.name}", root)
            )
