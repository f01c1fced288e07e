"""The console's pages: one file each, found by looking into this folder.

A page module has `PAGE` (the keywords of `dash.register_page`, with `icon` and `order` for the navigation; no `icon`
means it is not listed there) and `layout(**query)`. Its callbacks stand in the same file.
"""

from __future__ import annotations

import importlib
import pkgutil

import dash


def register() -> None:
    """Register every page of this folder with the application that was just made."""
    for found in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{found.name}")
        dash.register_page(module.__name__, layout=module.layout, **module.PAGE)
