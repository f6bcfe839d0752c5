"""`python -m slot_attention_jax.demo`."""

from slot_attention_jax.demo import command_line

if __name__ == "__main__":
  command_line.main()
