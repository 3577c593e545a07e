"""Methods: one file for each exchange and each block filter.

A file declares one method part completely: its name, its configuration keys with defaults and
bounds, its construction, its messages and its computing costs. Recipes, plans, benchmarks and tests
iterate over the declarations. `declaration` defines the parts of a declaration. Every other module
of this package is a declaration and is imported automatically.
"""

import importlib
import pkgutil

from gtcbmuf.methods.declaration import ExchangeSpec, FilterSpec

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def _by_kind(specs: list[type]) -> dict[str, type]:
    kinds = {spec.__struct_config__.tag: spec for spec in specs}  # type: ignore[attr-defined]
    return {"none": kinds.pop("none"), **dict(sorted(kinds.items()))}


#: Declarations by their `kind`; "none" comes first.
EXCHANGES: dict[str, type[ExchangeSpec]] = _by_kind(ExchangeSpec.declared)
FILTERS: dict[str, type[FilterSpec]] = _by_kind(FilterSpec.declared)
