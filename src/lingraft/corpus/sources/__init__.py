"""Where the text of a corpus entry comes from: one small file a source, listed here by the key that selects it."""

from lingraft.corpus.sources.base import Row, Sample, Source
from lingraft.corpus.sources.files import FileSource
from lingraft.corpus.sources.hub import HubSource
from lingraft.corpus.sources.pages import PageSource

SOURCES: dict[str, type[Source]] = {
    "files": FileSource,
    "hub": HubSource,
    "pages": PageSource,
}

PATH_KEYS = tuple(key for source in SOURCES.values() for key in source.path_keys)
"""Keys of a corpus entry that hold paths."""

__all__ = ["PATH_KEYS", "SOURCES", "Row", "Sample", "Source"]
