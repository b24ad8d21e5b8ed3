"""What is left of a container's or job's memory is that of the tightest limit around the process."""

import pytest

from fidle_jax.train.memory_limits import left_of_limits


@pytest.fixture
def groups(tmp_path):
    """``groups(line, folders)``: what is left in a group, given files and content of each folder."""

    def groups(line, folders):
        (tmp_path / "cgroup").write_text(line)
        for folder, files in folders.items():
            (tmp_path / "sys" / folder).mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                (tmp_path / "sys" / folder / name).write_text(content)
        return left_of_limits(tmp_path / "cgroup", tmp_path / "sys")

    return groups


def _group(limit, used, cache):
    return {
        "memory.max": f"{limit}\n",
        "memory.current": f"{used}\n",
        "memory.stat": f"anon 7\ninactive_file {cache}\n",
    }


def test_each_limit_from_the_group_to_the_root_counts_and_what_has_none_does_not(groups):
    folders = {
        "": {"memory.stat": "anon 9\n"},
        "slurm": _group(800, 300, 0),
        "slurm/job": _group("max", 50, 0),
        "slurm/job/step": _group(100, 60, 20),
    }
    assert groups("0::/slurm/job/step\n", folders) == [60, 500]


def test_the_first_version_of_control_groups_has_a_folder_for_memory(groups):
    files = {
        "memory.limit_in_bytes": "100\n",
        "memory.usage_in_bytes": "130\n",
        "memory.stat": "total_inactive_file 10\n",
    }
    lines = "5:cpu,cpuacct:/job\n4:memory:/job\n"
    assert groups(lines, {"memory/job": files, "cpu/job": files}) == [0]


def test_a_container_sees_the_limit_at_its_root_though_its_group_is_named_from_outside(groups):
    assert groups("0::/kubepods/pod7\n", {"": _group(100, 60, 0)}) == [40]


def test_there_are_no_limits_where_there_are_no_control_groups(tmp_path):
    assert left_of_limits(tmp_path / "nothing", tmp_path) == []
