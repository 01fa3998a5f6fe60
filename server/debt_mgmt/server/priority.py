"""Which thread goes first: the event loop's, before those of gRPC that feed it; and when garbage is looked for."""

import contextlib
import gc
import os
import sys
import threading
from pathlib import Path

NICENESS = 19
COLLECT_AFTER = (20_000, 20, 20)
"""Objects, and collections of the younger generation, between two collections of each generation."""


def let_the_loop_go_first() -> None:
    """Lower the priority of every other thread of this process. For a process that does nothing but serve.

    gRPC's threads wake for every step of every call and each time interrupt the loop. Behind it, and as a batch, which
    never interrupts what runs, they hand over together what has come meanwhile: a quarter to a third less processor
    time a call under load, and no more waiting without load. Only Linux has priorities of threads.
    """
    if sys.platform != "linux":
        return
    loop = threading.get_native_id()
    niceness = os.getpriority(os.PRIO_PROCESS, loop) + NICENESS
    for task in Path("/proc/self/task").iterdir():
        if int(task.name) != loop:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, int(task.name), niceness)
                os.sched_setscheduler(int(task.name), os.SCHED_BATCH, os.sched_param(0))


def collect_seldom() -> None:
    """Take what was loaded at the start out of garbage collection, and collect less often: state has no cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
