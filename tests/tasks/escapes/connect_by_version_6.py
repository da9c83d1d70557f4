"""Connect by version 6."""

import socket

socket.socket(socket.AF_INET6).connect(("::1", 80))
print("escaped")
