"""Ask a name server."""

import socket

query = b"\0\1\1\0\0\1\0\0\0\0\0\0\7invalid\0\0\1\0\1"
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(query, ("127.0.0.53", 53))
print("escaped")
