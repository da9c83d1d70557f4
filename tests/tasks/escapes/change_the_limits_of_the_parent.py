"""Change the limits of the parent."""

import json
import resource

told = json.loads(input())
resource.prlimit(told["pid"], resource.RLIMIT_NOFILE, (1, 1))
print("escaped")
