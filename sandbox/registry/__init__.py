"""Debian's docker-registry with a configuration of ours: loopback only, files below the state folder, no passwords."""
