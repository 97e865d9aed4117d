// A camera app's way through the service: upload, Prepare, streams, ProcessVideo, events, result.
//
//   enhance TARGET USER_ID SOURCE RESULT [MODE_SETTING]
//
// MODE_SETTING is a file with serialised camera metadata, as CommitStreams has it in the HDI. The connection or the service
// may break at any time: the program waits a minute for it and goes on where it stood.

#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "checksums.h"
#include "connection.h"
#include "convert.h"
#include "download.h"
#include "events.h"
#include "upload.h"

namespace pb = videoprocess::v1;
namespace hdi = OHOS::HDI::Camera;

namespace {

using Context = grpc::ClientContext*;

struct Arguments {
    std::string target;
    int user_id;
    std::filesystem::path source;
    std::filesystem::path result;
    std::string mode_setting;
};

std::string ReadWhole(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        throw std::runtime_error("cannot read " + path.string());
    }
    return {std::istreambuf_iterator<char>(file), {}};
}

std::string OpenSession(Connection& connection, int user_id) {
    pb::CreateVideoProcessSessionRequest request;
    request.set_user_id(user_id);
    request.set_request_id(RandomUuid());  // a call that is made again opens no second session
    return Call<pb::CreateVideoProcessSessionResponse>([&](Context context, auto* response) {
               return connection.service.CreateVideoProcessSession(context, request, response);
           })
        .session_id();
}

std::vector<hdi::V1_3::StreamDescription> Prepare(Connection& connection, const std::string& session_id,
                                                  const std::string& video_id, const std::string& upload_id) {
    pb::PrepareRequest request;
    request.set_session_id(session_id);
    request.set_video_id(video_id);
    request.add_fds()->set_upload_id(upload_id);
    const auto prepared = Call<pb::PrepareResponse>(
        [&](Context context, auto* response) { return connection.session.Prepare(context, request, response); },
        kPrepareTimeout);
    std::vector<hdi::V1_3::StreamDescription> descriptions;
    for (const auto& message : prepared.stream_descs()) {
        descriptions.push_back(FromMessage(message));
    }
    return descriptions;
}

/// Drops streams; ids that are unknown are no error.
void ReleaseStreams(Connection& connection, const std::string& session_id,
                    const std::vector<hdi::V1_1::StreamInfo_V1_1>& streams) {
    pb::ReleaseStreamsRequest request;
    request.set_session_id(session_id);
    for (const auto& stream : streams) {
        *request.add_stream_infos() = ToMessage(stream);
    }
    Call<pb::ReleaseStreamsResponse>(
        [&](Context context, auto* response) { return connection.session.ReleaseStreams(context, request, response); });
}

void CreateStreams(Connection& connection, const std::string& session_id,
                   const std::vector<hdi::V1_1::StreamInfo_V1_1>& streams) {
    pb::CreateStreamsRequest request;
    request.set_session_id(session_id);
    for (const auto& stream : streams) {
        *request.add_stream_infos() = ToMessage(stream);
    }
    Call<pb::CreateStreamsResponse>([&](Context context, auto* response) {
        // The answer of an earlier try may have been lost, and an id is refused the second time.
        ReleaseStreams(connection, session_id, streams);
        return connection.session.CreateStreams(context, request, response);
    });
}

void CommitStreams(Connection& connection, const std::string& session_id, const std::string& mode_setting) {
    pb::CommitStreamsRequest request;
    request.set_session_id(session_id);
    request.set_serialized(mode_setting);
    Call<pb::CommitStreamsResponse>(
        [&](Context context, auto* response) { return connection.session.CommitStreams(context, request, response); });
}

pb::ProcessVideoResponse ProcessVideo(Connection& connection, const std::string& session_id,
                                      const std::string& video_id) {
    pb::ProcessVideoRequest request;
    request.set_session_id(session_id);
    request.set_video_id(video_id);
    request.set_request_id(RandomUuid());  // a call that is made again starts no second job
    return Call<pb::ProcessVideoResponse>(
        [&](Context context, auto* response) { return connection.session.ProcessVideo(context, request, response); });
}

void CloseSession(Connection& connection, const std::string& session_id) {
    pb::CloseVideoProcessSessionRequest request;
    request.set_session_id(session_id);
    Call<pb::CloseVideoProcessSessionResponse>([&](Context context, auto* response) {
        return connection.service.CloseVideoProcessSession(context, request, response);
    });
}

const pb::Artifact& VideoOf(const pb::ProcessReport& report) {
    for (const auto& artifact : report.artifacts()) {
        if (artifact.kind() == pb::ARTIFACT_KIND_VIDEO) {
            return artifact;
        }
    }
    throw Failure("ARTIFACT_NOT_FOUND", "the job made no video");
}

void Enhance(const Arguments& arguments) {
    Connection connection(arguments.target);
    const std::string session_id = OpenSession(connection, arguments.user_id);
    const std::string upload_id = Upload(connection, arguments.user_id, arguments.source);
    const std::string video_id = "cpp-" + upload_id;

    const auto streams = StreamsFor(Prepare(connection, session_id, video_id, upload_id));
    CreateStreams(connection, session_id, streams);
    CommitStreams(connection, session_id, arguments.mode_setting);
    const auto accepted = ProcessVideo(connection, session_id, video_id);
    const auto report =
        Follow(connection, arguments.user_id, accepted.job().job_id(), accepted.event_sequence());
    ReleaseStreams(connection, session_id, streams);

    const auto& artifact = VideoOf(report);
    const std::string sha256 =
        Download(connection, arguments.user_id, artifact.artifact_id(), arguments.result);
    CloseSession(connection, session_id);
    std::cout << "result " << artifact.size_bytes() << " bytes, sha256 " << sha256 << std::endl;
    for (const auto& lost : report.not_kept()) {
        std::cout << "not kept: " << pb::NotKeptCategory_Name(lost.what()) << ": " << lost.reason() << std::endl;
    }
}

}  // namespace

int main(int count, char** values) {
    if (count != 5 && count != 6) {
        std::cerr << "usage: enhance TARGET USER_ID SOURCE RESULT [MODE_SETTING]" << std::endl;
        return 2;
    }
    try {
        Enhance({values[1], std::stoi(values[2]), values[3], values[4], count == 6 ? ReadWhole(values[5]) : ""});
        return 0;
    } catch (const Failure& failure) {
        std::cerr << "failed: " << failure.reason() << " (CamRetCode " << failure.cam_ret_code()
                  << "): " << failure.what() << std::endl;
    } catch (const std::exception& error) {
        std::cerr << "failed: " << error.what() << std::endl;
    }
    return 1;
}
