#include "connection.h"

namespace {

constexpr int kMaxMessageBytes = 16 << 20;
/// Finds a connection that died without a word under a subscription that may be silent for hours.
constexpr int kKeepaliveMs = 30'000;
constexpr int kKeepaliveTimeoutMs = 10'000;
/// Back soon after a restart of the service, however long it was away.
constexpr int kReconnectMinMs = 200;
constexpr int kReconnectMaxMs = 2'000;

std::shared_ptr<grpc::Channel> Open(const std::string& target) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
    arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kReconnectMinMs);
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kReconnectMinMs);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kReconnectMaxMs);
    // For TLS: grpc::SslCredentials; docs/access.md tells who gets in.
    return grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace

Connection::Connection(const std::string& target)
    : channel(Open(target)), service(channel), session(channel), callback(channel), files(channel) {}
