"""What holds for all tests: Triton interprets its kernels where there is no GPU to compile them for."""

from __future__ import annotations

import os
from pathlib import Path

if not Path("/dev/nvidiactl").exists():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton: it reads this for its own functions too
