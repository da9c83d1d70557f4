"""Connect to a port of this machine."""

import json
import socket

told = json.loads(input())
socket.create_connection(("127.0.0.1", told["port"]), 1)
print("escaped")
