"""Downloads the Java archives of jars.lock once, checks each against its sha256 and keeps them in a cache folder.

Apache Ivy does the downloading: PySpark ships it, and by its defaults it asks Maven's central repository. Every archive is
listed with transitive="false", so the lock alone decides what comes.
"""

import fcntl
import hashlib
import importlib.util
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stack.errors import JarsUnavailable
from stack.java import find_java

LOCK = Path(__file__).with_name("jars.lock")
GROUPS = ("kafka", "delta")
FETCH_TIMEOUT_S = 900.0
Report = Callable[[str], None]


@dataclass(frozen=True)
class Jar:
    """One Java archive: its coordinates and the checksum it must have."""

    organisation: str
    artifact: str
    version: str
    sha256: str

    @property
    def file(self) -> str:
        """File name in the cache."""
        return f"{self.artifact}-{self.version}.jar"


def silent(_: str) -> None:
    """A report that nobody reads."""


def read_lock(text: str) -> dict[str, tuple[Jar, ...]]:
    """The lock's archives by group; JarsUnavailable names the line that is not `group:artifact:version  sha256`."""
    out: dict[str, list[Jar]] = {}
    group = ""
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.partition("#")[0].strip()
        if section := re.fullmatch(r"\[(\w+)\]", line):
            group = section.group(1)
        elif match := re.fullmatch(r"([\w.-]+):([\w.-]+):([\w.-]+)\s+([0-9a-f]{64})", line):
            out.setdefault(group, []).append(Jar(*match.groups()))
        elif line:
            raise JarsUnavailable(
                f"line {number} of the jar lock is {line!r}; allowed is `group:artifact:version  sha256`"
            )
    return {name: tuple(jars) for name, jars in out.items()}


def kafka_jars(cache: Path, *, report: Report = silent) -> list[Path]:
    """The broker's class path, downloaded if need be."""
    return fetch(cache, group="kafka", report=report)


def delta_jars(cache: Path, *, report: Report = silent) -> list[Path]:
    """What Spark needs beside its own archives to read and write Delta tables, downloaded if need be."""
    return fetch(cache, group="delta", report=report)


def fetch(cache: Path, *, group: str, report: Report = silent, lock: Path = LOCK) -> list[Path]:
    """Paths of a group's archives under `cache/<group>/`, each with the checksum of the lock.

    Safe under several processes at once; a download that broke off or does not match never lands in the cache.
    """
    locked = read_lock(lock.read_text())
    if group not in locked:
        raise JarsUnavailable(f"unknown group of jars {group!r}; allowed are {', '.join(locked)}")
    jars, home = locked[group], cache.expanduser() / group
    home.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(home / ".lock"):
        missing = [jar for jar in jars if not _holds(home / jar.file, jar)]
        if missing:
            report(f"{group}: {len(missing)} of {len(jars)} Java archives to download, once")
            _download(missing, home, group=group, report=report)
    return [home / jar.file for jar in jars]


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _holds(path: Path, jar: Jar) -> bool:
    return path.is_file() and _sha256(path) == jar.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _download(jars: Sequence[Jar], home: Path, *, group: str, report: Report) -> None:
    """Retrieve into a scratch folder beside the cache, check everything, then move file by file (atomic)."""
    with tempfile.TemporaryDirectory(dir=home, prefix=".download-") as name:
        scratch = Path(name)
        said = _retrieve(jars, scratch, group=group, report=report)
        for jar in jars:
            got = scratch / jar.file
            if not got.is_file():
                raise JarsUnavailable(_why_missing(jar, said))
            if (found := _sha256(got)) != jar.sha256:
                raise JarsUnavailable(
                    f"{jar.file} was downloaded with sha256 {found}, but the lock allows only {jar.sha256}; nothing was kept"
                )
        for jar in jars:
            (scratch / jar.file).replace(home / jar.file)


def _retrieve(jars: Sequence[Jar], scratch: Path, *, group: str, report: Report) -> list[str]:
    """Run Ivy over `jars`; its output lines, most of it for the error message."""
    (scratch / "ivy.xml").write_text(ivy_file(jars))
    command = [str(find_java()), f"-Divy.default.ivy.user.dir={scratch}/user", "-jar", str(ivy_jar())]
    command += ["-cache", str(scratch / "cache"), "-ivy", str(scratch / "ivy.xml")]
    command += ["-retrieve", str(scratch / "[artifact]-[revision].[ext]")]
    said: list[str] = []
    count = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as ivy:
        try:
            for line in ivy.stdout or ():
                said.append(line.strip())
                if "[SUCCESSFUL ]" in line and "!" in line:
                    count += 1
                    report(
                        f"{group}: {count}/{len(jars)} {line.split('#')[-1].split('!')[0].replace(';', ' ').strip()}"
                    )
            ivy.wait(FETCH_TIMEOUT_S)
        except BaseException:
            ivy.kill()
            raise
    return said


def ivy_file(jars: Sequence[Jar]) -> str:
    """The module file Ivy resolves: every archive by name, none of what they depend on."""
    rows = "".join(
        f'<dependency org="{jar.organisation}" name="{jar.artifact}" rev="{jar.version}" transitive="false" '
        'conf="default->master"/>'
        for jar in jars
    )
    return (
        '<ivy-module version="2.0"><info organisation="livefeed" module="jars"/>'
        f'<configurations><conf name="default"/></configurations><dependencies>{rows}</dependencies></ivy-module>'
    )


def ivy_jar() -> Path:
    """Apache Ivy as PySpark ships it."""
    spec = importlib.util.find_spec("pyspark")
    found = sorted(Path(spec.origin).parent.glob("jars/ivy-*.jar")) if spec and spec.origin else []
    if not found:
        raise JarsUnavailable("no ivy-*.jar was found in the jars folder of the installed pyspark, which ships it")
    return found[-1]


def _why_missing(jar: Jar, said: Sequence[str]) -> str:
    """One sentence: offline, or the archive is not there."""
    offline = (
        "UnknownHostException",
        "ConnectException",
        "SocketTimeoutException",
        "NoRouteToHost",
        "Unable to tunnel",
    )
    name = f"{jar.organisation}:{jar.artifact}:{jar.version}"
    if any(word in line for line in said for word in offline):
        return f"{name} could not be downloaded: its repository cannot be reached; connect this machine once and repeat"
    reason = next((line for line in said if "ERROR" in line or "not found" in line), "Ivy gave no reason")
    return f"{name} could not be downloaded: {reason}"
