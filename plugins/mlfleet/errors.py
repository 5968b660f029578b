"""Everything mlfleet raises on purpose.

::

    MlfleetError
     +- ConfigError            a setting, connection or file is missing or wrong
     +- ManifestError          a manifest with one or more diagnostics
     +- ReleaseRefused         the release gate said no
     +- RemoteError            talking to a remote system did not work
     |   +- TransientError     *   time-out, refused connection, 5xx, 429, Polyaxon's empty 405
     |   |   +- UnexpectedAnswer  *   2xx, but not what the API promises (HTML, empty, cut off, wrong digest)
     |   |   +- OutcomeUnknown    *   a call that must not be repeated was sent and its answer lost
     |   +- RequestRefused         4xx: the same request will be refused again
     |       +- NotFound               404
     |       +- Conflict               409
     |       +- AuthError              401, 403, or a redirect to a login page
     +- JobError               a remote job came to an end other than success
         +- JobFailed          *   it failed
         +- JobStopped             somebody stopped it
         +- JobTimedOut        *   its deadline passed
         +- SpecError              the system refused the job's specification

``*`` marks ``retryable = True``: doing the whole task again later can succeed. It is never a licence to repeat the one
call that failed: after :class:`OutcomeUnknown` look up first whether the call had its effect.

No text, attribute or ``repr`` of these errors may hold a secret: the clients redact before they raise.
All of them can be pickled (Airflow moves exceptions between processes).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class MlfleetError(Exception):
    """Root of everything mlfleet raises on purpose; ``retryable`` says whether a later try can succeed unchanged."""

    retryable: ClassVar[bool] = False


class ConfigError(MlfleetError):
    """Missing or invalid configuration.

    ``what`` is wrong, ``where`` it was looked for, ``todo`` is the next step for a person.
    """

    def __init__(self, what: str, where: str = "", todo: str = "") -> None:
        super().__init__(what, where, todo)
        self.what, self.where, self.todo = what, where, todo

    def __str__(self) -> str:
        text = self.what
        if self.where:
            text += f" (looked in {self.where})"
        if self.todo:
            text += f". {self.todo}"
        return text


class ManifestError(MlfleetError):
    """A manifest that cannot be used; ``diagnostics`` each print as ``file:line:column: message``."""

    def __init__(self, diagnostics: Sequence[object]) -> None:
        super().__init__(tuple(diagnostics))
        self.diagnostics = tuple(diagnostics)

    def __str__(self) -> str:
        return "\n".join(str(item) for item in self.diagnostics)


class ReleaseRefused(MlfleetError):
    """The release gate said no; ``guard`` is the rule that spoke and ``reason`` what it saw."""

    def __init__(self, reason: str, guard: str = "") -> None:
        super().__init__(reason, guard)
        self.reason, self.guard = reason, guard

    def __str__(self) -> str:
        return f"not released: {self.reason}" + (f" [{self.guard}]" if self.guard else "")


class RemoteError(MlfleetError):
    """A call to a remote system did not work.

    ``system``    "polyaxon", "kfp", "container_registry", "spinnaker", ...
    ``message``   what happened, in one sentence
    ``method``, ``url``   the call, redacted; empty when not about one call
    ``status``    HTTP status, None without an answer
    ``body``      beginning of the answer's body, redacted
    ``reason``    the system's own explanation taken from the body, redacted
    ``attempts``  how often the call was sent
    ``retry_after``   seconds the system asked us to wait, if it did
    """

    def __init__(
        self,
        system: str,
        message: str,
        *,
        method: str = "",
        url: str = "",
        status: int | None = None,
        body: str = "",
        reason: str = "",
        attempts: int = 1,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(system, message)
        self.system, self.message = system, message
        self.method, self.url = method, url
        self.status, self.body, self.reason = status, body, reason
        self.attempts = attempts
        self.retry_after = retry_after

    def __str__(self) -> str:
        call = f"{self.method} {self.url}: " if self.url else ""
        reason = f": {self.reason}" if self.reason and self.reason not in self.message else ""
        tries = f" (after {self.attempts} attempts)" if self.attempts > 1 else ""
        return f"{self.system}: {call}{self.message}{reason}{tries}"


class TransientError(RemoteError):
    """The system could not answer now: time-out, refused connection, 5xx, 429, Polyaxon's empty 405 (polyaxon.md 1)."""

    retryable = True


class UnexpectedAnswer(TransientError):
    """A successful status whose content is not what the API promises: HTML, empty, cut off, or a wrong digest."""


class OutcomeUnknown(TransientError):
    """A call that must not be repeated was sent and its answer lost: look up its effect before you go on."""


class RequestRefused(RemoteError):
    """The system understood and refused (4xx): the same request will be refused again."""


class NotFound(RequestRefused):
    """404: there is no such thing."""


class Conflict(RequestRefused):
    """409: it exists already, or is in a state that does not allow this."""


class AuthError(RequestRefused):
    """401, 403, or a redirect to a login page: the credentials of the connection are missing, expired or not enough.

    ``challenge`` is the ``WWW-Authenticate`` header, "" without one.
    """

    challenge: str = ""


class JobError(MlfleetError):
    """A remote job came to an end other than success.

    ``state`` is the system's own word, ``reason`` its explanation, ``url`` the page a person can open and ``log_tail``
    the last lines of the job's log, as far as the system has one. ``todo`` is the next step for a person; who knows a
    better one than the class sets it.
    """

    verb: ClassVar[str] = "ended badly"
    todo: str = ""

    def __init__(
        self, system: str, job_id: str, state: str = "", reason: str = "", url: str = "", log_tail: Sequence[str] = ()
    ) -> None:
        super().__init__(system, job_id, state, reason, url, tuple(log_tail))
        self.system, self.job_id, self.state = system, job_id, state
        self.reason, self.url, self.log_tail = reason, url, tuple(log_tail)

    def __str__(self) -> str:
        text = f"{self.system} job {self.job_id} {self.verb}"
        text += f" ({self.state})" if self.state else ""
        text += f": {self.reason}" if self.reason else ""
        text += f"; see {self.url}" if self.url else ""
        text += f". {self.todo}" if self.todo else ""
        if self.log_tail:
            text += "\nlast lines of its log:\n" + "\n".join(f"  {line}" for line in self.log_tail)
        return text


class JobFailed(JobError):
    """The job failed; another try may succeed (a lost node, a flaky download), so tasks retry it."""

    retryable = True
    verb = "failed"
    todo = "Mend the cause, then clear the task to run it again"


class JobStopped(JobError):
    """Somebody stopped the job; starting it again would work against that person."""

    verb = "was stopped"
    todo = "Clear the task to run it again"


class JobTimedOut(JobError):
    """The job's deadline passed before it was done, and it was stopped."""

    retryable = True
    verb = "ran out of time"
    todo = "Make it shorter or its timeout longer, then clear the task"


class SpecError(JobError):
    """The system refused the job's specification: it must be changed before another try makes sense."""

    verb = "was refused"
    todo = "Correct the specification, then clear the task"
