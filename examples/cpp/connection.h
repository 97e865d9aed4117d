// The way to the service: one channel, the stubs of all services, and calls that outlast a restart of it.

#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "patience.h"
#include "videoprocess/v1/file_transfer.grpc.pb.h"
#include "videoprocess/v1/video_process_callback.grpc.pb.h"
#include "videoprocess/v1/video_process_service.grpc.pb.h"
#include "videoprocess/v1/video_process_session.grpc.pb.h"

constexpr std::chrono::seconds kCallTimeout{30};
/// Prepare reads the file before it answers.
constexpr std::chrono::seconds kPrepareTimeout{300};
/// Of one stream; a longer transfer or subscription goes on in the next one.
constexpr std::chrono::seconds kStreamTimeout{600};

/// The stubs on one channel.
struct Connection {
    /// Connects when first used. `target` is in gRPC's notation, e.g. 127.0.0.1:50051.
    explicit Connection(const std::string& target);

    std::shared_ptr<grpc::Channel> channel;
    videoprocess::v1::VideoProcessService::Stub service;
    videoprocess::v1::VideoProcessSessionService::Stub session;
    videoprocess::v1::VideoProcessCallbackService::Stub callback;
    videoprocess::v1::FileTransferService::Stub files;
};

/// Gives a call its deadline.
inline void SetTimeout(grpc::ClientContext& context, std::chrono::seconds timeout) {
    context.set_deadline(std::chrono::system_clock::now() + timeout);
}

/// Makes a call once.
template <typename Response>
Response CallOnce(const std::function<grpc::Status(grpc::ClientContext*, Response*)>& call,
                  std::chrono::seconds timeout = kCallTimeout) {
    grpc::ClientContext context;
    SetTimeout(context, timeout);
    Response response;
    ThrowUnlessOk(call(&context, &response));
    return response;
}

/// Makes a call, again and again while the service is away. For calls that may be repeated.
template <typename Response>
Response Call(const std::function<grpc::Status(grpc::ClientContext*, Response*)>& call,
              std::chrono::seconds timeout = kCallTimeout) {
    Patience patience;
    for (;;) {
        try {
            return CallOnce<Response>(call, timeout);
        } catch (const Failure& failure) {
            patience.Wait(failure);
        }
    }
}
