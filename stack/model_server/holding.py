"""Who holds a loaded model: it stays open while somebody does, and closes once nobody does."""

import threading


class Holding:
    """Counts the holds of a model and lets its owner wait for the last one to end."""

    def __init__(self) -> None:
        self._holds = 0
        self._closing = False
        self._changed = threading.Condition()

    def hold(self) -> bool:
        """Keep it open until `let_go`; False when it is closed or about to be."""
        with self._changed:
            if self._closing:
                return False
            self._holds += 1
            return True

    def let_go(self) -> None:
        """End one `hold`."""
        with self._changed:
            self._holds -= 1
            if self._closing:
                self._changed.notify_all()

    def close(self, *, wait_s: float | None = None) -> bool:
        """Free it once nobody holds it; False, still closing, when somebody does after `wait_s` seconds."""
        with self._changed:
            self._closing = True
            if not self._changed.wait_for(lambda: self._holds == 0, wait_s):
                return False
        self._free()
        return True

    def _free(self) -> None:
        """Give back what the model takes."""
