"""A client's Ed25519 key, made at first use and never sent."""

from __future__ import annotations

from pathlib import Path

from fedunlearn.key_files import PrivateKey, make_key_file, read_key_file

KEY_FILE = "key.pem"


class ClientKey(PrivateKey):
    """The private key in `<client's folder>/key.pem` (readable by its owner only)."""

    @staticmethod
    def of(folder: Path) -> PrivateKey:
        """Return the key of the client whose folder this is; it is made if there is none.

        Raises:
            RunFolderError: the key file cannot be read or written, is open to others, or is no Ed25519 key.
        """
        path = Path(folder) / KEY_FILE
        if not path.exists():
            make_key_file(path)  # another process may have been first: its key counts
        return read_key_file(path)
