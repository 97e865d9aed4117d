#include "events.h"

#include <iostream>

namespace pb = videoprocess::v1;

namespace {

void Tell(const pb::JobProgress& progress) {
    std::cout << "progress " << pb::JobPhase_Name(progress.phase()) << " " << progress.percent() << " % segments "
              << progress.segments_done() << " of " << progress.segments_total() << std::endl;
}

void Tell(const pb::OnStatusChanged& status) {
    std::cout << "status " << pb::SessionStatus_Name(status.status()) << " " << status.message() << std::endl;
}

}  // namespace

pb::ProcessReport Follow(Connection& connection, int user_id, const std::string& job_id, int64_t after_sequence) {
    Patience patience;
    for (;;) {
        pb::SubscribeRequest request;
        request.set_user_id(user_id);
        request.set_after_sequence(after_sequence);
        grpc::ClientContext context;
        SetTimeout(context, kStreamTimeout);
        const auto reader = connection.callback.Subscribe(&context, request);
        pb::SubscribeResponse response;
        while (reader->Read(&response)) {
            patience.Renew();
            const pb::CallbackEvent& event = response.event();
            if (event.sequence() != 0) {  // only OnProcessDone and OnError have numbers
                after_sequence = event.sequence();
            }
            if (event.has_on_status_changed()) {
                Tell(event.on_status_changed());
            }
            if (event.job_id() != job_id) {
                continue;
            }
            if (event.has_on_progress()) {
                Tell(event.on_progress().progress());
            } else if (event.has_on_process_done()) {
                context.TryCancel();
                return event.on_process_done().report();
            } else if (event.has_on_error()) {
                context.TryCancel();
                throw Failure(event.on_error().reason(), event.on_error().message());
            }
        }
        const grpc::Status status = reader->Finish();
        const bool is_ended = status.ok();  // it does not end by itself, but if it did: again, with a pause
        patience.Wait(Failure(is_ended ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "the events ended") : status));
    }
}
