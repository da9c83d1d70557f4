"""Look for anything that is not python."""

import os

for folder, folders, files in os.walk("/"):
    top = folder.split("/")[1]
    if top not in ("", "python", "lib", "lib64", "inside", "tmp", "dev"):
        print("escaped", folder)
    if top == "dev" and set(files + folders) - {"null"}:
        print("escaped", files)
