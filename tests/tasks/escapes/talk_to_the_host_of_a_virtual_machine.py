"""Talk to the host of a virtual machine."""

import socket

socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
print("escaped")
