// Why a call failed, as the service says it. docs/errors.md lists the reasons and what to do about each.

#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <stdexcept>
#include <string>

/// A failed call or job.
class Failure : public std::runtime_error {
public:
    /// Reads the google.rpc.Status that the service puts into the trailers of every error.
    explicit Failure(const grpc::Status& status);

    /// A failure that is told otherwise: by an event, or found by this program.
    Failure(const std::string& reason, const std::string& message);

    /// The exact cause, e.g. NOT_A_VIDEO; gRPC's own code where the service itself did not answer.
    const std::string& reason() const { return reason_; }

    /// The HDI's CamRetCode, e.g. -3 for INVALID_ARGUMENT. 0 where the service itself did not answer.
    int cam_ret_code() const { return cam_ret_code_; }

    /// Whether the same call may succeed later.
    bool may_pass() const { return may_pass_; }

    /// How long the service asks to wait before that.
    std::chrono::milliseconds retry_delay() const { return retry_delay_; }

private:
    std::string reason_;
    int cam_ret_code_ = 0;
    bool may_pass_ = false;
    std::chrono::milliseconds retry_delay_{0};
};

/// Throws unless the call succeeded.
void ThrowUnlessOk(const grpc::Status& status);
