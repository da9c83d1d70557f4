"""Send a datagram to this machine."""

import json
import socket

told = json.loads(input())
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", told["port"]))
print("escaped")
