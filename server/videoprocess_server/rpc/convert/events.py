"""Callback events."""

from __future__ import annotations

from videoprocess.v1 import hdi_enums_pb2, types_pb2
from videoprocess.v1 import video_process_callback_pb2 as pb
from videoprocess_server.engine.events import StatusChanged
from videoprocess_server.model.records import Event, Fault, Job
from videoprocess_server.rpc.convert import jobs, reports, times
from videoprocess_server.rpc.convert.enums import BLOCK_REASONS


def subscribe_response(item: StatusChanged | Job | Event, now_us: int) -> pb.SubscribeResponse:
    """Return the message of what a subscriber is told; a job is its progress."""
    if isinstance(item, StatusChanged):
        return pb.SubscribeResponse(event=_status_changed(item, now_us))
    if isinstance(item, Job):
        return pb.SubscribeResponse(event=_progressed(item, now_us))
    return pb.SubscribeResponse(event=_ended(item))


def _status_changed(changed: StatusChanged, now_us: int) -> pb.CallbackEvent:
    return pb.CallbackEvent(
        create_time=times.timestamp(now_us),
        session_id=changed.session_id,
        on_status_changed=pb.OnStatusChanged(
            status=hdi_enums_pb2.SessionStatus.ValueType(changed.status),
            reason=BLOCK_REASONS[changed.reason],
            message=changed.message,
        ),
    )


def _progressed(job: Job, now_us: int) -> pb.CallbackEvent:
    return pb.CallbackEvent(
        create_time=times.timestamp(now_us),
        session_id=job.session_id,
        video_id=job.video_id,
        job_id=job.job_id,
        on_progress=pb.OnProgress(progress=jobs.progress(job.progress)),
    )


def _ended(event: Event) -> pb.CallbackEvent:
    return pb.CallbackEvent(
        sequence=event.sequence,
        create_time=times.timestamp(event.create_time_us),
        session_id=event.session_id,
        video_id=event.video_id,
        job_id=event.job_id,
        on_process_done=None if event.fault else _process_done(event),
        on_error=_error(event.fault) if event.fault else None,
    )


def _process_done(event: Event) -> pb.OnProcessDone:
    """Of the HDI's entries scalingFactor and interpFramePts are told where they apply; no stage has an id of its own."""
    made = event.report
    entries = {}
    if made is not None and made.scaling_factor is not None:
        entries["scalingFactor"] = types_pb2.MapValue(double_value=made.scaling_factor)
    if made is not None and made.interp_frame_pts:
        entries["interpFramePts"] = types_pb2.MapValue(string_value=made.interp_frame_pts)
    return pb.OnProcessDone(
        meta_data=types_pb2.MapData(entries=entries),
        report=reports.report(made, event.artifacts) if made else None,
    )


def _error(fault: Fault) -> pb.OnError:
    return pb.OnError(
        error_code=hdi_enums_pb2.ErrorCode.ValueType(fault.error_code),
        reason=fault.reason,
        message=fault.message,
    )
