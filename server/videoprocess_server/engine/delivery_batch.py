"""The files that one try of a job brings into shared roots."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import ParamSpec, Self, TypeVar

from videoprocess_server.blobs.shared_directory import TEMPORARY_PREFIX, SharedDirectory
from videoprocess_server.blobs.shared_path import SharedPathError
from videoprocess_server.engine.ids import new_id
from videoprocess_server.engine.products import Product
from videoprocess_server.model.records import Delivery, Source, SourceKind
from videoprocess_server.model.settings_snapshot import SharedDirectory as Target

#: of a folder: its root's name, and its path below it
Place = tuple[str, str]
P = ParamSpec("P")
T = TypeVar("T")


class DeliveryRefusedError(Exception):
    """A file cannot be written where the caller asked for. `reason` is one of the catalogue in errors.py."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def telling(do: Callable[P, T], *arguments: P.args, **more: P.kwargs) -> T:
    """Return what `do` returns.

    Raises:
        DeliveryRefusedError: for its SharedPathError.
    """
    try:
        return do(*arguments, **more)
    except SharedPathError as error:
        raise DeliveryRefusedError(error.reason, error.message) from error


def exists(path: str, why: str = "is there already") -> DeliveryRefusedError:
    """Return the answer to a name that is taken."""
    return DeliveryRefusedError("OUTPUT_EXISTS", f"{path!r} {why}")


def take_away(directory: SharedDirectory, delivery: Delivery) -> None:
    """Remove what a delivery that came to nothing has left: its temporary file, and the file if it has its name.

    What others have put there stays, whatever it holds.
    """
    directory.remove(delivery.temporary_name)
    found = directory.find(delivery.name) if delivery.inode else None
    if found is None or found.st_ino != delivery.inode:
        return
    if directory.holds(delivery.name, delivery.size_bytes, delivery.sha256, lambda: None):
        directory.remove(delivery.name)


class DeliveryBatch:
    """Opens nothing but through its folders, which it keeps open until it is closed.

    Args:
        deliveries: one a product, in order; None where its stream names no directory.
        directories: open.
        stack: closes them.
        closed: called with the temporary names at the end.
    """

    def __init__(
        self,
        deliveries: Sequence[Delivery | None],
        directories: Mapping[Place, SharedDirectory],
        stack: ExitStack,
        closed: Callable[[Iterable[str]], None],
    ) -> None:
        self.deliveries = tuple(deliveries)
        self._directories = directories
        self._stack = stack
        self._closed = closed
        self._done: set[Delivery] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed(each.temporary_name for each in self.noted)
        self._stack.close()

    @property
    def noted(self) -> tuple[Delivery, ...]:
        """What is to stand in the job's row before anything is written."""
        return tuple(each for each in self.deliveries if each is not None)

    def create(self, go_on: Callable[[], None]) -> None:
        """Make every file, empty, beside its place; what is noted changes by that.

        Args:
            go_on: called again and again; raises where it is not to go on.

        Raises:
            DeliveryRefusedError, RootUnavailableError, OSError: it cannot be written.
        """
        self.deliveries = tuple(each and self._created(each, go_on) for each in self.deliveries)

    def copy(self, open_product: Callable[[int], int], go_on: Callable[[], None]) -> None:
        """Fill every file.

        Args:
            open_product: returns a new descriptor of the product of this number.
            go_on: called again and again; raises where it is not to go on.

        Raises:
            DeliveryRefusedError, RootUnavailableError, OSError: it cannot be written.
        """
        for number, each in enumerate(self.deliveries):
            if each is None or each in self._done:
                continue
            fd = open_product(number)
            try:
                telling(self._of(each).fill, each.temporary_name, each.inode, fd, each.sha256, go_on)
            finally:
                os.close(fd)

    def give_names(self) -> None:
        """Give every file its name; those that replace others come last, when no other can be refused any more.

        Raises:
            DeliveryRefusedError: a name is taken, or a folder was moved away.
            RootUnavailableError, OSError: see there.
        """
        for delivery in sorted(self.noted, key=lambda each: each.replace_existing):
            if delivery not in self._done:
                directory, replace_ = self._of(delivery), delivery.replace_existing
                telling(directory.give_name, delivery.temporary_name, delivery.name, replace=replace_)

    def withdraw(self) -> None:
        """Take away what was brought."""
        for delivery in self.noted:
            take_away(self._of(delivery), delivery)

    def _created(self, delivery: Delivery, go_on: Callable[[], None]) -> Delivery:
        directory = self._of(delivery)
        if telling(self._is_done, directory, delivery, go_on):
            telling(directory.remove, delivery.temporary_name)
            self._done.add(delivery)
            return delivery
        return replace(delivery, inode=telling(directory.create, delivery.temporary_name))

    def _is_done(self, directory: SharedDirectory, delivery: Delivery, go_on: Callable[[], None]) -> bool:
        """Whether the service died after the file got its name."""
        found = directory.find(delivery.name) if delivery.inode else None
        if found is None:
            return False
        if found.st_ino != delivery.inode and directory.find(delivery.temporary_name) is not None:
            return False
        return directory.holds(delivery.name, delivery.size_bytes, delivery.sha256, go_on)

    def _of(self, delivery: Delivery) -> SharedDirectory:
        return self._directories[delivery.root, delivery.folder]


def note(
    products: Sequence[Product],
    names: Sequence[tuple[Target, str] | None],
    earlier: Sequence[Delivery],
    files: Sequence[Source],
    directories: Mapping[Place, SharedDirectory],
) -> list[Delivery | None]:
    """Return what each product needs to be brought.

    Args:
        products: finished.
        names: of each: where it goes, and what it is to be called; None where it goes nowhere.
        earlier: what an earlier try of the same job noted, which is gone on with.
        files: of the video; none of them is ever replaced.
        directories: open.

    Raises:
        DeliveryRefusedError: a name is taken.
    """
    known = {replace(each, temporary_name="", inode=0): each for each in earlier}
    taken: set[tuple[tuple[int, int], str]] = set()
    noted: list[Delivery | None] = []
    for product, named in zip(products, names, strict=True):
        if named is None:
            noted.append(None)
            continue
        target, name = named
        wanted = Delivery(
            root=target.root,
            folder=target.path,
            name=name,
            temporary_name="",
            size_bytes=product.size_bytes,
            sha256=product.sha256,
            replace_existing=target.replace_existing,
        )
        directory = directories[target.root, target.path]
        if (directory.identity, name) in taken:
            raise exists(wanted.path, "would be the name of two files of this job")
        taken.add((directory.identity, name))
        noted.append(known.get(wanted) or _fresh(wanted, directory, files))
    return noted


def _fresh(wanted: Delivery, directory: SharedDirectory, files: Sequence[Source]) -> Delivery:
    found = telling(directory.find, wanted.name)
    if found is not None:
        if not wanted.replace_existing:
            raise exists(wanted.path)
        start = f"{found.st_dev}:{found.st_ino}:"
        if any(file.kind is SourceKind.SHARED and file.identity.startswith(start) for file in files):
            raise exists(wanted.path, "is the video's own source")
    return replace(wanted, temporary_name=f"{TEMPORARY_PREFIX}{new_id()}")
