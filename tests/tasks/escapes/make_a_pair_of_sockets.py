"""Make a pair of sockets."""

import socket

socket.socketpair()
print("escaped")
