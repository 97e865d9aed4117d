"""What the servicers call."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from videoprocess_server.engine.authorisation import Policy
from videoprocess_server.engine.deliveries import Deliveries
from videoprocess_server.engine.direct_transfers import DirectTransfers
from videoprocess_server.engine.events import EventHub
from videoprocess_server.engine.jobs import Jobs
from videoprocess_server.engine.removal import Removals
from videoprocess_server.engine.results import Results
from videoprocess_server.engine.sessions import Sessions
from videoprocess_server.engine.stops import Stops
from videoprocess_server.engine.uploads import Uploads
from videoprocess_server.engine.videos import Videos
from videoprocess_server.engine.watermarks import Watermarks
from videoprocess_server.engine.work import Work
from videoprocess_server.model.clock import Clock
from videoprocess_server.model.spans import SpanSink
from videoprocess_server.rpc.call_limits import CallLimits
from videoprocess_server.rpc.call_pool import CallPools
from videoprocess_server.rpc.call_recorder import CallRecorder
from videoprocess_server.rpc.capability_facts import CapabilityFacts
from videoprocess_server.store.repository import Repository


@dataclass(frozen=True, kw_only=True)
class Services:
    """The engine's objects, and what rpc needs beside them. The composition root makes and closes all of it."""

    repository: Repository
    policy: Policy
    clock: Clock
    hub: EventHub
    sessions: Sessions
    watermarks: Watermarks
    deliveries: Deliveries
    videos: Videos
    jobs: Jobs
    stops: Stops
    removals: Removals
    uploads: Uploads
    results: Results
    direct: DirectTransfers
    work: Work
    facts: CapabilityFacts
    call_limits: CallLimits
    recorder: CallRecorder
    spans: SpanSink
    #: closed after the server has stopped and the executor is closed
    pools: CallPools
    #: set from the event loop when the service begins to stop: subscriptions end, so that the server can
    draining: asyncio.Event
