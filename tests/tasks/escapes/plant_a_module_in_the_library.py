"""Plant a module in the library."""

import os

open(os.path.dirname(os.__file__) + "/planted.py", "w").write("x")
print("escaped")
