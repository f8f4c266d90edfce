"""What holds for all tests: how Triton runs where there is no GPU, and that Ctrl-C is heard."""

from __future__ import annotations

import os
import signal
from pathlib import Path

if not Path("/dev/nvidiactl").exists():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton: it reads this for its own functions too

# A shell's background jobs ignore SIGINT, and so would the commands that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
