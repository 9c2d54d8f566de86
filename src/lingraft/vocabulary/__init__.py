"""Vocabulary extension: new tokens for a tokenizer, and their rows of embeddings and head."""
