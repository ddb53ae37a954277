"""What a picture says: fields, levels, scales, words; no drawing library."""
