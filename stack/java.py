"""Finds the Java that runs Kafka and Spark: JAVA_HOME first, then PATH; 17 or newer."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from stack.errors import JavaMissing

OLDEST = 17
ADVICE = "get it with `apt-get install openjdk-17-jre-headless`, or put any JDK 17 or newer on PATH or in JAVA_HOME"


def java_command() -> str:
    """The `java` that would be run, whether or not it is there."""
    home = os.environ.get("JAVA_HOME")
    return str(Path(home) / "bin" / "java") if home else shutil.which("java") or "java"


def find_java() -> Path:
    """The `java` to run; JavaMissing says what was found instead and how to get it."""
    found = java_command()
    if not os.access(found, os.X_OK):
        where = "no java is on PATH" if found == "java" else f"JAVA_HOME holds no {found}"
        raise JavaMissing(f"Java {OLDEST} or newer is needed but {where}: {ADVICE}")
    version = java_version(Path(found))
    if version < OLDEST:
        raise JavaMissing(
            f"Java {OLDEST} or newer is needed but {found} is Java {version or 'of an unknown version'}: {ADVICE}"
        )
    return Path(found)


def java_version(java: Path) -> int:
    """Major version of a `java` (17 for 17.0.15, 8 for 1.8.0); 0 when it does not say."""
    try:
        done = subprocess.run([str(java), "-version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r'version "(?:1\.)?(\d+)', done.stderr + done.stdout)
    return int(match.group(1)) if match else 0
