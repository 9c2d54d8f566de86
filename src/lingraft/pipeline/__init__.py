"""The pipeline of a run: steps from typed values to artefact folders, each cached under a key of its arguments."""
