"""Connect to a socket without a file."""

import json
import socket

told = json.loads(input())
socket.socket(socket.AF_UNIX).connect("\0" + told["abstract"])
print("escaped")
