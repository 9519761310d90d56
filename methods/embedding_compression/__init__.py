"""The word embeddings take less room: fewer tokens, codes into shared vectors, hashed buckets."""
