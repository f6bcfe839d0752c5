"""The memory that is left, of the machine and of a container."""

import pytest

from slot_attention_jax.runtime import memory

SYSTEM = "MemTotal: 900 kB\nMemAvailable:    500 kB\n"
GROUP = {
  "memory.max": "300000\n",
  "memory.current": "200000\n",
  "memory.stat": "anon 7\ninactive_file 50000\n",
}


@pytest.mark.parametrize(
  ("system", "group", "expected"),
  [
    (SYSTEM, GROUP, 150_000),
    (SYSTEM, GROUP | {"memory.max": "max\n"}, 512_000),
    (SYSTEM, {}, 512_000),
    ("", GROUP, 150_000),
    ("", {}, None),
  ],
)
def test_the_smaller_of_machine_and_container(
  system, group, expected, tmp_path, monkeypatch
):
  (tmp_path / "meminfo").write_text(system)
  for name, text in group.items():
    (tmp_path / name).write_text(text)
  monkeypatch.setattr(memory, "_SYSTEM", tmp_path / "meminfo")
  monkeypatch.setattr(memory, "_GROUP", tmp_path)
  assert memory.available_bytes() == expected
