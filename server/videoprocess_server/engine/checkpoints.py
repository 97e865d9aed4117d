"""Plans and finished segments: dropped when nobody can go on with them."""

from __future__ import annotations

from videoprocess_server.blobs.blob_store import BlobKind
from videoprocess_server.engine.sweeper import bury
from videoprocess_server.store.repository import Transaction


def discard_plans(tx: Transaction, user_id: int, video_id: str, now_us: int) -> list[str]:
    """Delete a video's plans and their segments' rows, with tombstones for the files; return their ids.

    The caller drops the video's frozen workers and calls the sweeper, both once this is committed.
    """
    plan_ids = [plan.plan_id for plan in tx.list_plans(user_id, video_id)]
    for plan_id in plan_ids:
        tx.delete_plan(plan_id)
        bury(tx, BlobKind.SEGMENT, plan_id, now_us)
    return plan_ids
