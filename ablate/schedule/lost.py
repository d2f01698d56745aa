"""Workers that were lost: whether for lack of memory, and what a stage that has lost one continues with."""

import re
from collections.abc import Mapping
from typing import Any

from ablate.plan import footprint
from ablate.plan.footprint import Footprint
from ablate.plan.tree import Node
from ablate.schedule.ray_cluster import on_host
from ablate.store import host_memory
from ablate.store.folders import Store
from ablate.store.process import lives

MONITOR = re.compile(r"[^.\n]*(?:memory usage threshold|running low on memory)[^\n]*")
"""What Ray says where its memory monitor has killed a worker (`ray.exceptions.OutOfMemoryError`). What it says of any
other lost worker names the kernel's killing as one cause of many, and is no evidence."""


LONGEST = 300


def short_of_memory(error: str, heartbeat: Mapping[str, Any]) -> str:
    """Who has killed a worker for lack of the host's memory, with the evidence; empty if nobody has.

    `error`: what Ray says of the loss.
    """
    if said := MONITOR.search(error):
        return f"its worker was killed by Ray's memory monitor: {' '.join(said[0].split()):.{LONGEST}}"
    if not heartbeat:
        return ""
    is_here = lives(heartbeat) is not None
    evidence = (
        host_memory.was_killed(heartbeat)
        if is_here
        else on_host(str(heartbeat["host"]), host_memory.was_killed, dict(heartbeat))
    )
    return f"its worker was killed by the kernel for lack of memory: {evidence}" if evidence else ""


def split_after_kill(node: Node, store: Store, heartbeat: Mapping[str, Any]) -> Footprint | None:
    """Split the batches of a stage whose worker, on a CPU, was killed for lack of memory; None if that cannot help.

    Micro-batches save memory in training alone: not in probing, nor before a worker has begun, without a heartbeat.
    """
    if "room" not in heartbeat or heartbeat["phase"] == "probing":
        return None
    order = node.order()
    key = order["needs"][order["signatures"].index(node.signature)]
    stored = footprint.read(store, key, "cpu")
    return footprint.split_further(store, key, "cpu", stored, node.stage, int(heartbeat["room"]))
