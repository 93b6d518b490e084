"""What the bytes of a payload mean: C types, structs, codecs."""
