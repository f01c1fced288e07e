"""The diagnostic log of a process: stderr only, one line an event, with time, level and logger."""

from __future__ import annotations

import re
import subprocess
import sys

_PROGRAM = """
import structlog
from lineage.diagnostic_log import configure_diagnostic_log
log = structlog.get_logger("plimsoll.gateway")
configure_diagnostic_log()
log.debug("not written")
log.warning("bundle refused", release="loan@2", message="digest differs")
"""


def test_an_event_is_one_line_on_stderr() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    expected = r'level=warning logger=plimsoll.gateway event="bundle refused" release=loan@2 message="digest differs"'
    assert re.fullmatch(rf"timestamp=\S+Z {expected}", line)
