"""Programs of scripts/ as modules."""

import importlib.machinery
import importlib.util
import sys
from types import ModuleType

from support.launch import ROOT


def load_script(name: str) -> ModuleType:
    """Load scripts/NAME as a module. It leaves no compiled file beside the program."""
    module_name = name.replace("-", "_")
    loader = importlib.machinery.SourceFileLoader(module_name, str(ROOT / "scripts" / name))
    spec = importlib.util.spec_from_loader(module_name, loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # its dataclasses look it up
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, str(ROOT / "scripts"))  # programs import modules beside them
    loader.exec_module(module)
    sys.path.remove(str(ROOT / "scripts"))
    sys.dont_write_bytecode = writes
    return module
