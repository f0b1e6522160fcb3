"""Contains each check: an exception of a check, or its time-out, is a finding about that check."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from fluvial.errors import FluvialError
from fluvial.faults import describe
from fluvial.findings import Finding, is_finding

CHECK_S: Final = 15.0
"""How long one check may take, in seconds."""
FINDINGS_MAX: Final = 200
"""Most findings of one check."""


def contained(
    subject: str, who: str, check: Callable[[], Iterable[Finding]], *, timeout_s: float = CHECK_S
) -> list[Finding]:
    """What a check found; each finding has a subject. Never raises, except when the user interrupts it.

    It runs in a thread of its own. A check that does not return in time is left behind; it does not keep the process from ending.

    Args:
        subject: that of findings without one.
        who: names the check in findings about it, with its plugin.
        check: the check.
        timeout_s: how long it may take, in seconds.
    """
    found: list[Finding] = []
    done = threading.Event()

    def look() -> None:
        try:
            for one in check():
                if not is_finding(one):
                    raise TypeError(f"it yielded an object of the type {type(one).__name__}, which is no sound Finding")
                if len(found) == FINDINGS_MAX:
                    found.append(
                        _failure(subject, f"{who} found more than {FINDINGS_MAX} things; the rest is left out")
                    )
                    break
                found.append(one if one.subject else msgspec.structs.replace(one, subject=subject))
        except FluvialError as error:
            found.append(Finding(level="fail", subject=subject, text=error.message, hint=error.hint, code=error.code))
        except BaseException as error:  # noqa: BLE001 - the plugin boundary: anything may go wrong in there
            found.append(_failure(subject, f"{who} failed: {describe(error)}"))
        finally:
            done.set()

    threading.Thread(target=look, name=f"doctor: {who}", daemon=True).start()
    if not done.wait(timeout_s):
        return [*found, _failure(subject, f"{who} has not ended within {timeout_s:g} s")]
    return found


def _failure(subject: str, text: str) -> Finding:
    return Finding(level="fail", subject=subject, text=text)
