"""A stand-in for Spinnaker: Gate's API with igor's polling, echo's matching and orca's executions behind it.

Faithful where clients look, defects included (reference spinnaker.md); its deploy stage is real: the image is pulled by
digest, unpacked and run behind a reverse proxy.
"""
