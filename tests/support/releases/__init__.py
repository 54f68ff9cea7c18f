"""Small made-up releases, in the file formats of the official ones."""
