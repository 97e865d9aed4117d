"""Deletes bytes that no row names any more. A tombstone, written where the row was taken, says which those are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from videoprocess_server.blobs.blob_store import BlobKind, BlobStore
from videoprocess_server.model.clock import Clock
from videoprocess_server.model.records import PUBLISHED, Tombstone
from videoprocess_server.store.repository import Repository, StoreUnavailableError, Transaction

log = structlog.get_logger(__name__)

TOMBSTONES_PER_BATCH = 64


def bury(tx: Transaction, kind: BlobKind, key: str, now_us: int) -> None:
    """Note that these bytes are nobody's: in the transaction that takes the row which names them."""
    tx.put_tombstone(Tombstone(kind=kind.value, key=key, create_time_us=now_us))


class Sweeper:
    """Deletes first the bytes, then the tombstone: a crash in between costs a second try, and no byte is forgotten.

    No key is ever used again, so nothing is locked while a store takes its time, and several may sweep at once.

    Args:
        repository: of the tombstones.
        blobs: of the bytes.
        clock: for those that wait.
        withdraw: deletes what the key of a PUBLISHED one names.
    """

    def __init__(
        self, repository: Repository, blobs: BlobStore, clock: Clock, withdraw: Callable[[str], None]
    ) -> None:
        self._repository = repository
        self._blobs = blobs
        self._withdraw = withdraw
        self._clock = clock
        self._wanted = threading.Event()
        self._sweeping = threading.Lock()

    def sweep(self) -> None:
        """Delete all that can be deleted now; from any thread. The rest stays for the next call.

        Where another thread sweeps already, that one does this too, and the call returns at once.
        """
        self._wanted.set()
        while self._wanted.is_set() and self._sweeping.acquire(blocking=False):
            try:
                self._wanted.clear()
                while self._sweep_batch():
                    """There may be more."""
            except StoreUnavailableError as error:
                log.warning("sweep_put_off", error=str(error))
            finally:
                self._sweeping.release()

    def _sweep_batch(self) -> bool:
        """Return whether there may be more that can be deleted."""
        with self._repository.read() as reader:
            batch = reader.list_tombstones(TOMBSTONES_PER_BATCH)
        if not batch:
            return False
        done = [each for each in batch if self._delete(each)]
        with self._repository.transaction() as tx:
            self._keep_account(tx, batch, done)
        return bool(done)

    def _delete(self, tombstone: Tombstone) -> bool:
        """Return whether the bytes are gone."""
        try:
            if tombstone.kind == PUBLISHED:
                self._withdraw(tombstone.key)
            else:
                self._blobs.delete(BlobKind(tombstone.kind), tombstone.key)
        except (OSError, ValueError) as error:
            log.warning("bytes_not_deleted", kind=tombstone.kind, key=tombstone.key, error=str(error))
            return False
        return True

    def _keep_account(self, tx: Transaction, batch: Sequence[Tombstone], done: Sequence[Tombstone]) -> None:
        """Drop the tombstones of what is gone; the others go behind all that wait, so that none is kept from its turn."""
        now = self._clock.now_us()
        for tombstone in batch:
            if tombstone in done:
                tx.delete_tombstone(tombstone.kind, tombstone.key)
            else:
                tx.put_tombstone(replace(tombstone, create_time_us=now))
