#include "upload.h"

#include <algorithm>
#include <fstream>
#include <iostream>

#include "checksums.h"

namespace pb = videoprocess::v1;

namespace {

/// 1 MiB is a good size for a fast line; what is in a message when the line is cut is sent again.
constexpr int64_t kChunkBytes = 256 << 10;

struct File {
    std::filesystem::path path;
    int64_t size_bytes;
    std::string sha256;
};

/// How much the service has; 0 of an upload that it has not seen.
pb::QueryUploadResponse Query(Connection& connection, int user_id, const std::string& upload_id) {
    pb::QueryUploadRequest request;
    request.set_user_id(user_id);
    request.set_upload_id(upload_id);
    try {
        return CallOnce<pb::QueryUploadResponse>([&](grpc::ClientContext* context, auto* response) {
            return connection.files.QueryUpload(context, request, response);
        });
    } catch (const Failure& failure) {
        if (failure.reason() != "UPLOAD_NOT_FOUND") {
            throw;
        }
        return {};
    }
}

/// The bytes of a message, read at `offset`.
std::string ReadChunk(std::ifstream& stream, int64_t offset, int64_t size_bytes) {
    std::string data(static_cast<size_t>(std::min(kChunkBytes, size_bytes - offset)), '\0');
    stream.seekg(offset);
    if (!data.empty() && !stream.read(data.data(), static_cast<std::streamsize>(data.size()))) {
        throw Failure("SOURCE_CHANGED", "the file became shorter while it was sent");
    }
    return data;
}

/// Sends everything from `offset` on in one stream.
void SendFrom(Connection& connection, const pb::UploadHeader& header, const File& file, int64_t offset) {
    grpc::ClientContext context;
    SetTimeout(context, kStreamTimeout);
    pb::UploadResponse response;
    const auto writer = connection.files.Upload(&context, &response);

    pb::UploadRequest request;
    *request.mutable_header() = header;
    request.set_offset(offset);
    bool goes_on = writer->Write(request);
    writer->WaitForInitialMetadata();  // the service has taken the upload up, or says why not

    std::ifstream stream(file.path, std::ios::binary);
    bool is_last = false;
    while (goes_on && !is_last) {
        request.Clear();
        request.set_offset(offset);
        request.set_data(ReadChunk(stream, offset, file.size_bytes));
        request.set_crc32c(Crc32c(request.data()));
        offset += static_cast<int64_t>(request.data().size());
        is_last = offset == file.size_bytes;
        if (is_last) {
            request.mutable_finish()->set_size_bytes(file.size_bytes);
            request.mutable_finish()->set_sha256(file.sha256);
        }
        goes_on = writer->Write(request);
    }
    writer->WritesDone();
    ThrowUnlessOk(writer->Finish());  // a write that fails says nothing: the end of the call tells why
}

}  // namespace

std::string Upload(Connection& connection, int user_id, const std::filesystem::path& path) {
    const File file{path, static_cast<int64_t>(std::filesystem::file_size(path)), Sha256OfFile(path)};
    pb::UploadHeader header;
    header.set_user_id(user_id);
    header.set_upload_id(RandomHex(16));
    header.set_file_name(path.filename().string());
    header.set_size_bytes(file.size_bytes);

    Patience patience;
    int64_t committed = 0;
    for (;;) {
        try {
            const auto known = Query(connection, user_id, header.upload_id());
            if (known.complete()) {
                break;
            }
            if (known.committed_size_bytes() > committed) {
                committed = known.committed_size_bytes();
                patience.Renew();
                std::cout << "upload goes on at " << committed << std::endl;
            }
            SendFrom(connection, header, file, known.committed_size_bytes());
            break;
        } catch (const Failure& failure) {
            patience.Wait(failure);
        }
    }
    std::cout << "uploaded " << file.size_bytes << " bytes" << std::endl;
    return header.upload_id();
}
