"""Find sockets of services."""

import os

for path in ("/run", "/var/run", "/var/run/docker.sock", "/tmp/.X11-unix", "/run/dbus", "/run/user"):
    if os.path.exists(path):
        print("escaped", path)
