from __future__ import annotations

import subprocess
import sys
import time

from d3ke_platform.memory import MemoryPeak, tree_bytes


def test_children_count_and_the_peak_stays():
    held = 60_000_000
    code = f"import time; block = bytearray(b'x' * {held}); print(1, flush=True); time.sleep(60)"
    before = tree_bytes()
    with MemoryPeak(every_s=0.05) as memory:
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        try:
            child.stdout.readline()
            time.sleep(0.5)
        finally:
            child.kill()
            child.wait()
            child.stdout.close()
    assert memory.peak_bytes > before + held
    assert memory.peak_gb == memory.peak_bytes / 1e9
