"""Read etc shadow."""

print("escaped", open("/etc/shadow").read())
