"""What the 43 signs of GTSRB are: their names, the groups they form, and which are mirror images."""

# Of the benchmark's classes 0 to 42, after the German road traffic regulations (StVO).
NAMES = (
    "20 km/h",
    "30 km/h",
    "50 km/h",
    "60 km/h",
    "70 km/h",
    "80 km/h",
    "end of 80 km/h",
    "100 km/h",
    "120 km/h",
    "no overtaking",
    "no overtaking by trucks",
    "priority at the next crossing",
    "priority road",
    "give way",
    "stop",
    "no vehicles",
    "no trucks",
    "no entry",
    "danger",
    "bend to the left",
    "bend to the right",
    "double bend",
    "uneven road",
    "slippery road",
    "road narrows",
    "road works",
    "traffic lights",
    "pedestrians",
    "children",
    "cyclists",
    "ice or snow",
    "wild animals",
    "end of all limits",
    "turn right ahead",
    "turn left ahead",
    "straight ahead only",
    "straight ahead or right",
    "straight ahead or left",
    "keep right",
    "keep left",
    "roundabout",
    "end of no overtaking",
    "end of no overtaking by trucks",
)

# The benchmark's own six in its order, by which its results are compared (Stallkamp et al., 2012,
# table 4).
GROUPS: dict[str, tuple[int, ...]] = {
    "speed limits": (0, 1, 2, 3, 4, 5, 7, 8),
    "other prohibitions": (9, 10, 15, 16),
    "ends of prohibitions": (6, 32, 41, 42),
    "mandatory": tuple(range(33, 41)),
    "warnings": (11, *range(18, 32)),
    "unique": (12, 13, 14, 17),
}

# The class that a sign belongs to once left and right are swapped. Looked at one by one, in the
# figure that `experiments/gtsrb_prepare.py` draws: signs that are not quite their own mirror image
# (the lorry of a truck sign, the worker, the arrows of the roundabout) are left out.
MIRRORED: dict[int, int] = {
    **{label: label for label in (11, 12, 13, 15, 17, 18, 22, 26, 30, 35)},
    **{19: 20, 20: 19, 33: 34, 34: 33, 36: 37, 37: 36, 38: 39, 39: 38},
}


def mirror_table() -> tuple[int, ...]:
    """`MIRRORED` by label; -1 where the mirror image is no sign of the benchmark."""
    return tuple(MIRRORED.get(label, -1) for label in range(len(NAMES)))
