"""Tests of reading compiled XLA:TPU programs."""

from experiments.tpu import tpu_program

# In the format of XLA:TPU, shortened.
PROGRAM = """HloModule jit_step, is_scheduled=true

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[]{:T(128)} parameter(0)
  %y = f32[]{:T(128)} parameter(1)
  ROOT %sum = f32[]{:T(128)} add(%x, %y)
}

%fused.1 (p: f32[8,128]) -> f32[8,128] {
  %p = f32[8,128]{1,0:T(8,128)} parameter(0)
  ROOT %conv = f32[8,128]{1,0:T(8,128)S(1)} convolution(%p, %p), window={size=1}
}

%body.1 (t: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %t = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %f = f32[8,128]{1,0:T(8,128)} fusion(%t), kind=kOutput, calls=%fused.1, \
backend_config={"window_config":{"estimated_cycles":"100"}}
  %r = f32[8,128]{1,0:T(8,128)} all-reduce(%f), to_apply=%add
  ROOT %out = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) tuple(%t, %r)
}

%condition.1 (t: (s32[], f32[8,128])) -> pred[] {
  %limit = s32[]{:T(128)} constant(3)
  %t = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%t), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %limit), direction=LT
}

%condition.2 (t: (s32[], f32[8,128])) -> pred[] {
  %t = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%t), index=0
  %j = s32[]{:T(128)} get-tuple-element(%t), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %j), direction=LT
}

ENTRY %main (a: f32[8,128]) -> f32[8,128] {
  %a = f32[8,128]{1,0:T(8,128)} parameter(0)
  %copy.1 = f32[8,128]{0,1:T(8,128)} copy(%a), \
backend_config={"window_config":{"estimated_cycles":"7"}}
  %w.1 = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) while(%copy.1), \
condition=%condition.1, body=%body.1, metadata={op_name="scan"}
  %w.2 = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) while(%w.1), \
condition=%condition.2, body=%body.1
  %s = (bf16[4,2]{1,0:T(8,128)(2,1)}, f32[3]{0:T(128)}) all-reduce-start(%w.2)
  ROOT %d = f32[8,128]{1,0:T(8,128)} all-reduce-done(%s)
}
"""


def test_loops_count_once_per_trip():
  got = tpu_program.measure(PROGRAM)
  # A copy, three trips of one loop, one of a loop of unknown trip count.
  assert got["cycles_by_kind"] == {"convolution": 300 + 100, "other": 7}
  assert got["estimated_cycles"] == 407
  assert got["unknown_trips"] == 1


def test_bytes_of_collectives():
  collectives = tpu_program.measure(PROGRAM)["collectives"]
  in_loops, outside = (3 + 1) * 8 * 128 * 4, 4 * 2 * 2 + 3 * 4
  assert collectives == {
    "all-reduce": {"count": 3, "in_loops": 2, "bytes": in_loops + outside}
  }
