#include "failure.h"

#include <google/protobuf/util/time_util.h>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace {

/// A connection that broke, or a service that is not there, says nothing of its own.
bool IsPassingWithoutAnswer(grpc::StatusCode code) {
    return code == grpc::StatusCode::UNAVAILABLE || code == grpc::StatusCode::DEADLINE_EXCEEDED;
}

}  // namespace

Failure::Failure(const grpc::Status& status)
    : std::runtime_error(status.error_message()),
      reason_("GRPC_" + std::to_string(status.error_code())),
      may_pass_(IsPassingWithoutAnswer(status.error_code())) {
    google::rpc::Status details;
    if (!details.ParseFromString(status.error_details())) {
        return;
    }
    for (const auto& detail : details.details()) {
        google::rpc::ErrorInfo info;
        google::rpc::RetryInfo retry;
        if (detail.UnpackTo(&info) && info.domain() == "videoprocess") {
            reason_ = info.reason();
            cam_ret_code_ = std::stoi(info.metadata().at("cam_ret_code"));
            may_pass_ = info.metadata().at("retryable") == "true";
        } else if (detail.UnpackTo(&retry)) {
            const auto delay = google::protobuf::util::TimeUtil::DurationToMilliseconds(retry.retry_delay());
            retry_delay_ = std::chrono::milliseconds(delay);
        }
    }
}

Failure::Failure(const std::string& reason, const std::string& message)
    : std::runtime_error(message), reason_(reason) {}

void ThrowUnlessOk(const grpc::Status& status) {
    if (!status.ok()) {
        throw Failure(status);
    }
}
