"""Every way to reduce, once in layers, and once at the input where it can."""

from fastadasp.profiles.methods import VARIANTS

ON_DEVICES = {name: method for name, method in VARIANTS.items() if not method.selects_groups}
"""Those that do not choose one row after the other."""


def every_way(start_layer=0, methods=VARIANTS):
    """Name -> what a profile says of method, schedule and place."""
    ways = {}
    for name, method in methods.items():
        schedule = "constant" if "constant" in method.schedules else method.schedules[0]
        own = {"method": method.name, **method.settings}
        ways[name] = {**own, "schedule": schedule, "start_layer": start_layer}
        if "input" in method.schedules:
            ways[f"{name}-at-input"] = {**own, "schedule": "input"}
    return ways
