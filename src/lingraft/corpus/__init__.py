"""From files to blocks of tokens: read, tokenize, mix, pack."""
