"""The engine room: a question in, a result out; everything slow is remembered by what it depends on."""

from ovs_core.devices import Cancelled
from ovs_core.engine.engine import Engine
from ovs_core.engine.menus import EncoderInfo, MethodInfo
from ovs_core.engine.request import NotEnoughMemory, Progress, Request
from ovs_core.engine.result import Result

__all__ = [
    "Cancelled",
    "EncoderInfo",
    "Engine",
    "MethodInfo",
    "NotEnoughMemory",
    "Progress",
    "Request",
    "Result",
]
