"""What a scrape reads while something is away: the rest, and that it is."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from videoprocess_server.engine.limits import Limits
from videoprocess_server.model.records import ActiveUser
from videoprocess_server.store.repository import StoreUnavailableError
from videoprocess_server.telemetry.metrics import Metrics
from videoprocess_server.telling import Readings

USERS = (
    ActiveUser(user_id=1, queued_count=3, running_count=1),
    ActiveUser(user_id=2, queued_count=0, running_count=1),
)


def _readings(*, away: bool = False, draining: bool = False, most_jobs: int = 10) -> Readings:
    @contextmanager
    def read() -> Any:
        if away:
            raise StoreUnavailableError("locked")
        yield SimpleNamespace(
            list_active_users=lambda: USERS, count_open_sessions=lambda: 4, stored_bytes=lambda: 99
        )

    services = SimpleNamespace(
        repository=SimpleNamespace(read=read),
        facts=SimpleNamespace(limits=Limits(max_active_jobs=most_jobs)),
        work=SimpleNamespace(draining=draining),
    )
    return Readings(SimpleNamespace(services=services))  # type: ignore[arg-type]


def _told(metrics: Metrics) -> Mapping[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.scrape().decode())
        for sample in family.samples
    }


def test_the_queue_is_added_up_over_users() -> None:
    metrics = Metrics()
    metrics.watch(_readings().of_store)
    told = _told(metrics)
    assert (3, 2) == (told["videoprocess_jobs", "queued"], told["videoprocess_jobs", "running"])
    assert (4, 99) == (told["videoprocess_sessions",], told["videoprocess_stored_bytes",])
    assert 1 == told["videoprocess_store_up",]


@pytest.mark.parametrize(
    ("given", "accepts"),
    [({}, 1), ({"draining": True}, 0), ({"most_jobs": 5}, 0), ({"most_jobs": 6}, 1), ({"away": True}, 0)],
)
def test_jobs_are_accepted_while_there_is_room_and_somebody_to_write_them_down(
    given: dict[str, Any], accepts: int
) -> None:
    metrics = Metrics()
    metrics.watch(_readings(**given).of_store)
    assert accepts == _told(metrics)["videoprocess_can_accept_job",]


def test_what_cannot_be_read_takes_nothing_from_the_rest() -> None:
    def broken() -> Any:
        raise OSError("no such disk")

    metrics = Metrics()
    metrics.watch(broken, _readings(away=True).of_store)
    metrics.bytes_received(5)
    told = _told(metrics)
    assert 0 == told["videoprocess_store_up",]
    assert 5 == told["videoprocess_received_bytes_total",]
    assert ("videoprocess_jobs", "queued") not in told


def test_two_services_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.work_parked()
    assert (1, 0) == (
        _told(one)["videoprocess_parkings_total",],
        _told(other)["videoprocess_parkings_total",],
    )
