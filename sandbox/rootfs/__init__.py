"""The base of all model images: a root file system with an interpreter and the serving packages, made as any user.

Debian (or Ubuntu) packages are unpacked with ``dpkg -x`` and wheels are installed into them; nothing of the host is
copied and no maintainer script runs. ``python -m sandbox.rootfs`` makes it, ``push`` puts it into a registry.
"""
