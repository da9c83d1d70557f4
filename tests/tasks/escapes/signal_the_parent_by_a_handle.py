"""Signal the parent by a handle."""

import json
import os
import signal

told = json.loads(input())
signal.pidfd_send_signal(os.pidfd_open(told["pid"]), 0)
print("escaped")
