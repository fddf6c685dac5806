"""What attackers and careless people do, each with the event that must be found and the detections that must alert.

A step's `event` maps the audit event's own field paths to what they must hold: an exact value, or a text with `*`.
A member of an array counts for the array. `alerts` names detections; detections.py says which shipped rules they are.
"""

from steps.access import GETTING_IN, SECRETS
from steps.damage import DAMAGE
from steps.inside import INSIDE
from steps.policies import POLICIES
from steps.rights import RIGHTS
from steps.workloads import WORKLOADS

ALL = GETTING_IN + SECRETS + RIGHTS + WORKLOADS + INSIDE + POLICIES + DAMAGE
