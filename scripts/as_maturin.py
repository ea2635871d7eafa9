"""Runs a command with the variables that maturin sets for pyo3's build scripts: `as_maturin.py cargo clippy ...`.

With any others, maturin and cargo would each build pyo3 anew after the other.
"""

import os
import platform
import sys
from pathlib import Path

version = f"{sys.version_info[0]}.{sys.version_info[1]}"
bits = 64 if sys.maxsize > 2**32 else 32
os.environ |= {
    "PYO3_PYTHON": str(Path(__file__).resolve().parent.parent / ".venv/bin/python"),
    "PYO3_ENVIRONMENT_SIGNATURE": f"{platform.python_implementation().lower()}-{version}-{bits}bit",
    "PYO3_BUILD_EXTENSION_MODULE": "1",
}
os.execvp(sys.argv[1], sys.argv[1:])
