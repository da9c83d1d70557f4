"""Exhaust threads."""

import _thread
import time

for _ in range(100000):
    try:
        _thread.start_new_thread(time.sleep, (60,))
        print("escaped", flush=True)
    except RuntimeError:
        raise SystemExit(1) from None
