"""Passes on what a child process says."""

import subprocess

from stack.demo.steps import Say

JVM_CHATTER = ("WARNING: Using incubator modules", "Setting default log level", "To adjust logging level")


def follow(process: "subprocess.Popen[str]", say: Say) -> list[str]:
    """Pass a child's lines on as they come, and return them; an interrupt goes to the child too."""
    lines: list[str] = []
    try:
        for line in process.stdout or ():
            if line.strip() and not line.startswith(JVM_CHATTER):
                lines.append(line.strip())
                say(f"   {line.rstrip()}")
        process.wait()
    except BaseException:
        process.terminate()
        process.wait(timeout=30)
        raise
    return lines
