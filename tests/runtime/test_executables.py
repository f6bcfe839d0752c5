from slot_attention_jax.runtime import executables


def test_calls_are_found_however_their_names_are_written():
  text = """
    %0 = stablehlo.custom_call @lapack_sgeqrf_ffi(%x) : () -> ()
    %1 = stablehlo.custom_call @mhlo.topk(%x) : () -> ()
    %2 = stablehlo.custom_call @"a call"(%x) : () -> ()
  """
  calls = executables.outside_calls(text)
  assert calls == ['"a call"', "lapack_sgeqrf_ffi", "mhlo.topk"]
  assert executables.can_be_loaded(calls[1:2])
  assert not executables.can_be_loaded(calls[:2])
