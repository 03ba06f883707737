"""A time for records of tests whose broker runs by the real clock.

Two hours ago, in whole seconds: older than anything that a client stamps itself, and younger than
any retention. Records of a fixed date are deleted by retention whenever its round comes between
writing and reading, as a broker should, and the test fails once in many runs.
"""

from __future__ import annotations

import time

RECENT_MS = (int(time.time()) - 7_200) * 1_000
