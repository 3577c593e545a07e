"""The layers of the design, read from the imports: each package uses only what lies below it."""

import ast
from pathlib import Path

import pytest
from support.launch import ROOT, run

PACKAGE = ROOT / "gtcbmuf"

#: From the bottom to the top.
LAYERS = (
    *("base", "mpi", "core", "methods", "config", "data"),
    *("acoustic", "training", "alignment", "cluster", "bench", "studies", "cli"),
)

#: Modules that may import mpi4py when they are loaded: no plan, import or configuration needs MPI.
WITHOUT_MPI = (
    "base",
    "methods",
    "config",
    "data",
    "cluster.costs",
    "cluster.plan",
    "cluster.profile",
)


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


MODULES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("module", [name for name in MODULES if "." in name])
def test_dependencies_point_down(module: str) -> None:
    layer = LAYERS.index(module.split(".")[0])
    for name in imports(MODULES[module]):
        first, *rest = name.split(".")
        if first == "gtcbmuf" and rest[0] in LAYERS:
            assert LAYERS.index(rest[0]) <= layer, f"{module} imports {name}"


def test_every_module_is_in_a_layer() -> None:
    top = {module.split(".")[0] for module in MODULES}
    assert top == {*LAYERS, "__init__", "__main__"}


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith(WITHOUT_MPI)])
def test_what_needs_no_mpi_does_not_import_it(module: str) -> None:
    """Neither by itself nor through a module of this package that it loads at its top."""
    seen, left = set(), {module}
    while left:
        seen |= (now := left)
        left = set()
        for one in now:
            for node in ast.parse(MODULES[one].read_text()).body:
                if isinstance(node, ast.ImportFrom) and node.module is not None:
                    names = [f"{node.module}.{alias.name}" for alias in node.names]
                elif isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                else:
                    continue
                assert not any(name.startswith("mpi4py") for name in names), f"{module}: {one}"
                parts = {name.removeprefix("gtcbmuf.") for name in names}
                parts |= {name.rpartition(".")[0] for name in parts}
                left |= (parts & MODULES.keys()) - seen


def test_only_the_layer_mpi_splits_communicators() -> None:
    splitting = {"Split", "Split_type", "Create", "Create_group", "Dup"}
    users = {
        module
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in splitting
    }
    assert users == {"mpi.carried", "mpi.hosts", "mpi.shared_memory", "mpi.topology"}


def test_only_one_module_opens_hdf5_files() -> None:
    """It opens them without locks."""
    users = {
        module
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("h5py.File", "File")
    }
    assert users == {"base.hdf5"}


def test_the_picture_is_of_this_source() -> None:
    assert run(ROOT / "scripts/draw-layers", "--check").returncode == 0, "run scripts/draw-layers"
