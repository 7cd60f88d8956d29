"""A client's Ed25519 key, made at first use and never sent."""

from __future__ import annotations

import base64
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedunlearn.errors import RunFolderError
from fedunlearn.files import atomic_create_bytes, make_folder, told_as_sentence

KEY_FILE = "key.pem"


class ClientKey:
    """The private key in `<client's folder>/key.pem` (readable by its owner only)."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        """Use an existing private key; `ClientKey.of` finds or makes the client's own."""
        self._private = private
        public = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.public_key: str = base64.b64encode(public).decode()

    @staticmethod
    def of(folder: Path) -> ClientKey:
        """Return the key of the client whose folder this is; it is made if there is none.

        Raises:
            RunFolderError: the key file cannot be read or written, or is no Ed25519 key.
        """
        path = make_folder(Path(folder)) / KEY_FILE
        if not path.exists():
            made = Ed25519PrivateKey.generate().private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            atomic_create_bytes(path, made, mode=0o600)  # another process may have been first: its key counts
        with told_as_sentence(path, "read"):
            data = path.read_bytes()
        try:
            private = serialization.load_pem_private_key(data, password=None)
        except (ValueError, TypeError) as error:
            raise _damaged(path) from error
        if not isinstance(private, Ed25519PrivateKey):
            raise _damaged(path)
        return ClientKey(private)

    def sign(self, message: bytes) -> str:
        """Return the base64 signature over `message`."""
        return base64.b64encode(self._private.sign(message)).decode()


def _damaged(path: Path) -> RunFolderError:
    return RunFolderError(
        f"{path} is not an Ed25519 private key: put back the client's own key, by which the server knows it."
    )
