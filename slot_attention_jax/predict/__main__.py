"""`python -m slot_attention_jax.predict`."""

from slot_attention_jax.predict import command_line

if __name__ == "__main__":
  command_line.main()
