"""`python -m slot_attention_jax.report`."""

from slot_attention_jax.report import command_line

if __name__ == "__main__":
  command_line.main()
