"""An agent for Polyaxon CE that executes queued runs as local processes.

The agent itself (`loop`) only talks: it polls the server, keeps one folder per run (`journal`) and delivers statuses.
Each run is looked after by a small process of its own (`runner`), which starts the command, writes its log, counts
retries and time. So the agent may die and come back at any moment: the runners go on, and what they wrote down is
delivered later.

It executes whatever the server hands it, as the user that started it: for loopback only.
"""
