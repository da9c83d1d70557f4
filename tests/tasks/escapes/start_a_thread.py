"""Start a thread."""

import threading

thread = threading.Thread(target=print)
thread.start()
thread.join()
print("escaped")
