"""Puts the shared library into the wheel, with the licences of what is in it, and its platform into the name."""

import os
from typing import Any, Dict

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Hook(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: Dict[str, Any]) -> None:
        for licence in ("LICENSE-MIT", "LICENSE-APACHE", "THIRD_PARTY"):
            build_data["force_include"]["../../" + licence] = "audit_logger/" + licence
        build_data["force_include"][os.environ["WHEEL_LIBRARY"]] = "audit_logger/libaudit_logger.so"
        build_data["tag"] = "py3-none-" + os.environ["WHEEL_PLATFORM"]
        build_data["pure_python"] = False
