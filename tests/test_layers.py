"""The layers of the design, read from the imports: each module uses only what lies below it."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "gtcbmuf"

# From the top; modules of one layer may use each other only as listed in SIDEWAYS.
LAYERS = (
    ("__main__",),
    ("cli",),
    ("reproduce", "speedup_table", "trade_off"),
    (
        "error_table",
        "report",
        "plan",
        "slurm",
        "doctor",
        "calibrate",
        "describe",
        "synth",
        "kaldi",
        "audio",
        "forward",
        "bench",
    ),
    ("train",),
    ("scoring", "importing", "persistence", "resuming", "staging", "tiers"),
    ("overlap",),
    ("algorithm",),
    ("topology", "collectives"),
    ("score", "paper", "preset"),
    ("modelfile",),
    (
        "minibatches",
        "model",
        "decode",
        "schedule",
        "checkpoint",
        "runlog",
        "watchdog",
        "features",
        "results",
        "costs",
    ),
    ("corpus", "cluster"),
    (
        "kernels",
        "wire",
        "meter",
        "launcher",
        "storage",
        "drawing",
        "tables",
        "partition",
        "fitting",
    ),
    ("config",),
    ("errors", "__init__"),
)
SIDEWAYS = {("wire", "kernels"), ("bench", "calibrate"), ("forward", "kaldi")}
LEVEL = {module: level for level, layer in enumerate(LAYERS) for module in layer}
MPI_MODULES = {
    "bench",
    "calibrate",
    "collectives",
    "doctor",
    "launcher",
    "persistence",
    "train",
    "scoring",
    "staging",
    "tiers",
    "algorithm",
    "topology",
}


def module_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE).with_suffix("")
    return relative.parts[0]


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


def test_dependencies_point_down() -> None:
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        module = module_of(path)
        for name in imports(path):
            if not name.startswith("gtcbmuf."):
                continue
            used = name.split(".")[1]
            used = used if used in LEVEL else "__init__"
            if used != module and LEVEL[used] <= LEVEL[module] and (module, used) not in SIDEWAYS:
                wrong.append(f"{module} imports {used}")
    assert not wrong


def test_only_the_upper_layers_know_mpi() -> None:
    users = {
        module_of(path)
        for path in PACKAGE.rglob("*.py")
        if any(name.split(".")[0] == "mpi4py" for name in imports(path))
    }
    assert users <= MPI_MODULES


def test_only_topology_splits_communicators() -> None:
    splitting = {"Split", "Split_type", "Create", "Create_group", "Dup"}
    users = {
        module_of(path)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in splitting
    }
    assert users == {"topology"}
