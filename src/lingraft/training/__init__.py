"""Training on the Hugging Face Trainer, with the loss of each language in the logs."""
