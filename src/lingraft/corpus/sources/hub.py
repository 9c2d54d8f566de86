"""A dataset on the Hugging Face hub, streamed, or a local folder with a dataset: `hub:` of a corpus entry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lingraft.cache import file_fingerprint, fingerprint
from lingraft.corpus.dropped import DroppedText
from lingraft.corpus.read import field_texts
from lingraft.corpus.sources.base import Row
from lingraft.corpus.sources.records import RecordSource
from lingraft.errors import CorpusError


class HubSource(RecordSource):
    """The split `train` of a dataset. It is read in the order of its files, as far as the budget needs."""

    noun = "a hub dataset"
    is_streamed = True

    hub: str
    subset: str | None = None

    def content(self, recorded: Any = None) -> Any:
        return hub_revision(self.hub) or recorded

    def rows(self, dropped: DroppedText) -> Iterator[Row]:
        return read_hub_rows(self.hub, self.subset, self.fields, dropped)

    def place(self, number: int) -> str:
        return f"{self.hub}, document {number + 1}"


def hub_revision(name: str) -> str | None:
    """The dataset's commit on the hub, or the fingerprint of a local folder's files; `None` out of reach."""
    if Path(name).is_dir():
        files = sorted(path for path in Path(name).rglob("*") if path.is_file())
        return fingerprint({str(path): file_fingerprint(path) for path in files})
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        return HfApi().dataset_info(name).sha
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError):
        return None


def read_hub_rows(name: str, subset: str | None, fields: Sequence[str], dropped: DroppedText) -> Iterator[Row]:
    """The place and texts of each record of the split `train`, in the order of the hub's files.

    Raises:
        CorpusError: the dataset or subset cannot be opened, or has not one usable document.
    """
    import datasets

    where = f"{name}/{subset}" if subset else name
    seen = False
    try:
        records = datasets.load_dataset(name, subset, split="train", streaming=True)
        for number, record in enumerate(records, start=1):
            for place, texts in field_texts(record, fields, f"{where}:row {number}", dropped):
                if all(text.strip() for text in texts):
                    seen = True
                    yield place, texts
                else:
                    dropped.add("empty documents", place)
    except (OSError, ValueError) as error:  # not found, no such subset, no connection, broken file
        raise CorpusError(
            f"hub dataset '{where}' cannot be read: {error}; check the name, the subset and the connection "
            "(HF_HUB_OFFLINE), or give files instead"
        ) from error
    if not seen:
        raise CorpusError(f"hub dataset '{where}': no document could be read: {dropped or 'it is empty'}")
