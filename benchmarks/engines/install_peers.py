"""Install the frameworks that ours is compared with, each into an environment of its own.

    python benchmarks/engines/install_peers.py [--into .bench]

A peer that does not install is named with the reason, and the benchmark leaves it out. Nothing is patched.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Peer:
    """A framework: what is installed, and the oldest and newest Python (minor version) that it runs on."""

    name: str
    packages: tuple[str, ...]
    oldest: int
    newest: int


OURS = ("torchvision", "pydantic")
"""What our own networks need in a peer's environment."""

PEERS = (
    # 3.0 wants a Python without a global lock, 3.14; 2.0 is the newest that runs on the usual one.
    Peer("blazefl", ("blazefl[contrib,reproducibility]==2.0.3",), 12, 13),
    Peer("pfl", ("pfl[pytorch]==0.6.0",), 11, 12),
    Peer("fedlab", ("fedlab==1.3.0",), 11, 13),
)
NOT_RUN = "FLSim 0.1.0 does not import on Python 3.11 and newer: its dataclasses have defaults that can be changed."


def interpreter(peer: Peer) -> str | None:
    """A Python that the peer runs on: this one if it does."""
    if peer.oldest <= sys.version_info.minor <= peer.newest:
        return sys.executable
    for minor in range(peer.newest, peer.oldest - 1, -1):
        found = shutil.which(f"python3.{minor}")
        # A launcher that stands for a version which is not there answers with an error.
        if found and subprocess.run([found, "--version"], capture_output=True, check=False).returncode == 0:
            return found
    return None


def install(peer: Peer, into: Path) -> str | None:
    """Why the peer could not be installed, or None."""
    python = interpreter(peer)
    if python is None:
        return f"there is no Python 3.{peer.oldest} to 3.{peer.newest} on the path"
    folder = into / peer.name
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "-qq", *peer.packages, *OURS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    shutil.rmtree(folder)
    return (done.stderr.strip() or "pip failed").splitlines()[-1]


def main() -> None:
    """Install every peer that is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, default=Path(".bench"))
    arguments = parser.parse_args()
    for peer in PEERS:
        if not (arguments.into / peer.name).exists():
            why = install(peer, arguments.into)
            print(f"{peer.name}: {'installed' if why is None else f'left out: {why}'}")
    print(NOT_RUN)


if __name__ == "__main__":
    main()
