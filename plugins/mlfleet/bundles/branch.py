"""Asking a git server whether the branch of a git bundle has moved, without fetching anything."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

# Seconds; git itself waits for ever.
_TIMEOUT = 30


def stands_at(source: Any, commit: str | None) -> bool:
    """Whether the branch that a git bundle follows still is at this commit; False when that is not known.

    ``source`` is any DAG bundle. Not known is what is no GitDagBundle, what follows a tag or a commit, and a server
    that does not answer: the refresh that follows says what there is to say. Such a refresh (git provider 1.0.1,
    `bundles/git.py`) fetches twice and resets the whole working tree, also when there is nothing new.
    """
    store = getattr(source, "bare_repo", None)
    if store is None or commit is None:
        return False
    from git.exc import GitError

    branch = f"refs/heads/{source.tracking_ref}"
    hook = source.hook
    try:
        with ExitStack() as stack:
            if hook:
                # It has the key's file only from here on.
                stack.enter_context(hook.configure_hook_env())
                if command := hook.env.get("GIT_SSH_COMMAND"):
                    stack.enter_context(store.git.custom_environment(GIT_SSH_COMMAND=command))
            told = store.git.ls_remote("origin", branch, kill_after_timeout=_TIMEOUT)
    except GitError:
        return False
    finally:
        store.close()
    return f"{commit}\t{branch}" in str(told).splitlines()
