"""Limits of memory that Linux keeps for containers and for the jobs of a cluster: control groups."""

from collections.abc import Iterator
from pathlib import Path

# Of each version of control groups: files of the limit and the use, and the part of the use, in
# memory.stat, that is files which can be read again.
_FILES = {
    2: ("memory.max", "memory.current", "inactive_file"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def left_of_limits(
    groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> list[int]:
    """Bytes left of each limit that this process is under; none on a machine without control groups.

    Args:
      groups: where Linux says which groups the process is in.
      root: where it shows their settings.
    """
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return []
    return [left for line in lines for left in _left_of(line, root)]


def _left_of(line: str, root: Path) -> Iterator[int]:
    """What is left of the limit of a group, and of each that it is in."""
    _, controllers, name = line.split(":", 2)
    if not controllers:
        version, top = 2, root
    elif "memory" in controllers.split(","):
        version, top = 1, root / "memory"
    else:
        return
    limit, used, cache = _FILES[version]
    group = top / name.strip("/")
    for folder in (group, *group.parents):
        if not folder.is_relative_to(top):
            return
        try:
            stat = dict(row.split() for row in (folder / "memory.stat").read_text().splitlines())
            most = int((folder / limit).read_text())
            yield max(most - int((folder / used).read_text()) + int(stat.get(cache, 0)), 0)
        except (OSError, ValueError):
            continue  # no limit here ("max"), or the group is another's, out of a container's sight
