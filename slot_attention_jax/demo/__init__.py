"""A local page on which slots are looked at, exchanged and decoded."""
