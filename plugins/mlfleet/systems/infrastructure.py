"""Failures that are no fault of the job: its node went away under it. Such a job is resumed, with a budget of its own.

The words are those of Kubernetes, which Polyaxon and KFP (Argo) pass on in the reason or message of a failed pod:
pod disruption conditions (``PreemptionByScheduler``, ``DeletionByTaintManager``, ``EvictionByEvictionAPI``,
``TerminationByKubelet``), the kubelet's reasons (``Evicted``, ``NodeShutdown``, ``NodeLost``, ``Terminated`` in a node
shutdown) and Argo's "pod deleted". An out-of-memory kill is not among them: it would happen again.
"""

from __future__ import annotations

import re

_WORDS = re.compile(
    r"preempt"
    r"|\bevict(ed|ion)"
    r"|node ?shut ?down|imminent node shutdown|node ?lost|node was (deleted|lost)|node (is )?not ?ready"
    r"|the node was low on resource"
    r"|deletionby|terminationbykubelet"
    r"|\bpod (was )?deleted\b",
    re.IGNORECASE,
)


def is_infrastructure(reason: str) -> bool:
    """Whether ``reason``, the system's own words for a failure, blames a node."""
    return bool(_WORDS.search(reason))
