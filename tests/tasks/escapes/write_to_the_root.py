"""Write to the root."""

open("/planted", "w").write("x")
print("escaped")
