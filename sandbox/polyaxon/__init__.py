"""The real Polyaxon CE server and the agent that runs its jobs as local processes."""
