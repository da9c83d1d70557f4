"""Plant a pth file."""

import os

open(os.path.dirname(os.__file__) + "/site-packages/planted.pth", "w").write("import os")
print("escaped")
