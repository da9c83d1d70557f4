"""Durable files: written beside, synced, renamed; and the digests that say what they hold."""

from guiju.storage.atomic import (
    PreparedFile,
    explain_failure,
    folder_atomic,
    open_atomic,
    prepare_bytes,
    remove_stale,
    sync_folder,
    write_bytes,
    write_json,
    write_text,
)
from guiju.storage.digests import folder_digests, sha256_bytes, sha256_file, sha256_folder
from guiju.storage.foreign import open_foreign, read_foreign, require_plain_folder
from guiju.storage.space import RESERVE_BYTES, require_free_space

__all__ = [
    "RESERVE_BYTES",
    "PreparedFile",
    "explain_failure",
    "folder_atomic",
    "folder_digests",
    "open_atomic",
    "open_foreign",
    "prepare_bytes",
    "read_foreign",
    "remove_stale",
    "require_free_space",
    "require_plain_folder",
    "sha256_bytes",
    "sha256_file",
    "sha256_folder",
    "sync_folder",
    "write_bytes",
    "write_json",
    "write_text",
]
