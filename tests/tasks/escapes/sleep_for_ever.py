"""Sleep for ever."""

import time

time.sleep(10**6)
print("escaped")
