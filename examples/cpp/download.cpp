#include "download.h"

#include <fstream>
#include <iostream>

#include "checksums.h"

namespace pb = videoprocess::v1;

namespace {

/// Appends all from `offset` on, which moves on with each message; returns the description of the whole file.
pb::Artifact ReceiveFrom(Connection& connection, const pb::DownloadRequest& request, std::ofstream& file,
                         int64_t& offset) {
    grpc::ClientContext context;
    SetTimeout(context, kStreamTimeout);
    const auto reader = connection.files.Download(&context, request);
    pb::Artifact artifact;
    pb::DownloadResponse response;
    while (reader->Read(&response)) {
        if (response.has_artifact()) {
            artifact = response.artifact();
        }
        if (response.offset() != offset && !response.data().empty()) {
            context.TryCancel();
            throw Failure("DOWNLOAD_OFFSET", "a message is not where the one before it ended");
        }
        if (Crc32c(response.data()) != response.crc32c()) {
            context.TryCancel();
            throw Failure("CHECKSUM_MISMATCH", "a message was damaged on the way");
        }
        file.write(response.data().data(), static_cast<std::streamsize>(response.data().size()));
        offset += static_cast<int64_t>(response.data().size());
    }
    ThrowUnlessOk(reader->Finish());
    return artifact;
}

}  // namespace

std::string Download(Connection& connection, int user_id, const std::string& artifact_id,
                     const std::filesystem::path& path) {
    const std::filesystem::path part = path.string() + ".part";
    std::ofstream file(part, std::ios::binary | std::ios::trunc);
    pb::DownloadRequest request;
    request.set_user_id(user_id);
    request.set_artifact_id(artifact_id);

    Patience patience;
    pb::Artifact artifact;
    for (int64_t offset = 0; artifact.sha256().empty();) {
        try {
            request.set_offset(offset);
            artifact = ReceiveFrom(connection, request, file, offset);
        } catch (const Failure& failure) {
            if (offset > request.offset()) {
                patience.Renew();
            }
            patience.Wait(failure);
            std::cout << "download goes on at " << offset << std::endl;
        }
    }
    file.close();
    if (!file) {
        throw Failure("WRITE_FAILED", "cannot write " + part.string());
    }
    if (Sha256OfFile(part) != artifact.sha256()) {
        throw Failure("DIGEST_MISMATCH", "the file is not what its SHA-256 says");
    }
    std::filesystem::rename(part, path);
    return artifact.sha256();
}
