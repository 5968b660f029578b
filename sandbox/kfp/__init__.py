"""A stand-in for the KFP v2beta1 API server that really executes compiled pipelines (reference kfp.md).

Faithful where clients look: what it answers, refuses and gets wrong. State is SQLite; each component runs with the
pieces of kfp.local in a child process (`launcher`), which a fork server makes (`forkserver`).
"""
