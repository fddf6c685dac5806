"""Which shipped rules are meant by the detections that steps name: any of the ids will do."""

RULES = {}
