"""Tests of the benchmark of cold starts."""

from experiments.benchmarks import cold_start


def test_programs_of_functions_have_the_functions_names():
  assert cold_start.program_name("jit(update)") == "update"
  assert cold_start.program_name("update") == "update"
  assert cold_start.program_name("pmap(f(x))") == "f(x)"


def test_instructions_are_counted_before_optimization(tmp_path):
  text = "ENTRY main {\n  a = f32[] parameter(0)\n  ROOT b = f32[] add(a, a)\n}"
  name = "module_0003.jit_update"
  (tmp_path / f"{name}.cpu.before_optimizations.txt").write_text(text)
  (tmp_path / f"{name}.cpu.after_optimizations.txt").write_text(text)
  assert cold_start.instructions(str(tmp_path)) == {"update": 2}


def test_the_report_has_the_slowest_program_first():
  stages = ("tracing", "lowering", "compiling", "loading", "keeping")
  programs = {
    "short": dict.fromkeys(stages, 0.1) | {"count": 1},
    "loaded": dict.fromkeys(stages, 0.0) | {"loading": 2.0, "count": 0},
    "long": dict(zip(stages, (1.0, 2.0, 3.0, 0.0, 0.5), strict=True))
    | {"count": 2},
  }
  text = cold_start.report(
    "A run", {"cpu_seconds": 9, "wall_seconds": 5, "programs": programs}
  )
  head, *rows = text.splitlines()
  assert "9.0 CPU seconds" in head
  assert "3 programs" in head
  assert "loading 2.1" in head
  assert rows[3].startswith("| long | 2 | 1.00 | 2.00 | 3.00 | 0.00 | 0.50 |")
  assert rows[4].startswith("| loaded | 0 | 0.00 | 0.00 | 0.00 | 2.00 |")
