"""List the folder of temporary files."""

import json
import os

told = json.loads(input())
if os.path.basename(os.path.dirname(told["secret"])) in str(list(os.walk("/tmp"))):
    print("escaped")
