"""Refuses file systems on which SQLite's locks or shared memory do not hold."""

from __future__ import annotations

import re
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK_TYPES = frozenset(
    {
        "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4",
        "ocfs2", "orangefs", "smb2", "smb3", "smbfs",
    }
)  # fmt: skip
#: FUSE says "fuse.<program>"; these programs keep the files elsewhere
_NETWORK_FUSE = re.compile(
    r"fuse\.(sshfs|s3fs|s3ql|s3backer|goofys|gcsfuse|blobfuse2?|mount-s3|rclone|google-drive-ocamlfuse|curlftpfs|davfs2?|"
    r"glusterfs|ceph|ceph-fuse|juicefs|JuiceFS|seaweedfs|moosefs|mfs|nfs|smbnetfs|vmhgfs-fuse|grpcfuse|gvfsd-fuse)"
)


class NetworkFileSystemError(ValueError):
    """The database's directory is on a network file system, where SQLite loses data."""


def refuse_network_file_system(directory: Path) -> None:
    """Return if the directory is on a local file system, or the system does not tell.

    Raises:
        NetworkFileSystemError: it is not.
    """
    try:
        mounts = _MOUNTS.read_text("utf-8", errors="surrogateescape")
    except OSError:
        return  # not Linux
    file_system = file_system_type(directory.resolve(), mounts)
    if file_system in _NETWORK_TYPES or _NETWORK_FUSE.fullmatch(file_system):
        raise NetworkFileSystemError(
            f"{directory} is on a network file system ({file_system}), where a SQLite database gets corrupted: "
            "choose a data directory on a local disk or block volume"
        )


def file_system_type(path: Path, mounts: str) -> str:
    """Return the type of the innermost mount of `mounts` (/proc/self/mountinfo) that holds the absolute path; "" for none."""
    best, depth = "", -1
    for line in mounts.splitlines():
        mount, _, source = line.partition(" - ")
        point = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), mount.split(" ")[4]))
        # of two mounts on one point, the later one hides the earlier
        if path.is_relative_to(point) and len(point.parts) >= depth:
            best, depth = source.split(" ")[0], len(point.parts)
    return best
