"""Tokenizers that learn new words, and the rows of embeddings and head that go with them."""
