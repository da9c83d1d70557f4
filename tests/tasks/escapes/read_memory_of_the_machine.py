"""Read memory of the machine."""

for path in ("/proc/kcore", "/dev/mem", "/dev/kmem", "/dev/port"):
    try:
        print("escaped", open(path, "rb").read(10))
    except OSError:
        pass
