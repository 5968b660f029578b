"""Labels of the images that mlfleet builds, and compares releases by."""

from __future__ import annotations

# Followed by the experiment's slug and the metric's name.
METRIC = "mlfleet.metric"
DATA_START, DATA_END = "mlfleet.data.start", "mlfleet.data.end"
