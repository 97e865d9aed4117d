// What OpenHarmony's camera HDI gives a camera app: the structures that this example converts, with the HDI's names.
//
// In an app for OpenHarmony delete this file and include the HDI's own headers (<v1_1/types.h>, <v1_3/types.h>):
// convert.cpp compiles with either.

#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace OHOS::HDI::Camera {

namespace V1_0 {

class BufferProducerSequenceable;

enum StreamIntent : int32_t { PREVIEW = 0, VIDEO = 1, STILL_CAPTURE = 2, POST_VIEW = 3, ANALYZE = 4, CUSTOM = 5 };

enum EncodeType : int32_t { ENCODE_TYPE_NULL = 0, ENCODE_TYPE_H264 = 1, ENCODE_TYPE_H265 = 2, ENCODE_TYPE_JPEG = 3 };

struct StreamInfo {
    int32_t streamId_ = 0;
    int32_t width_ = 0;
    int32_t height_ = 0;
    int32_t format_ = 0;
    int32_t dataspace_ = 0;
    StreamIntent intent_ = PREVIEW;
    bool tunneledMode_ = false;
    std::shared_ptr<BufferProducerSequenceable> bufferQueue_;
    int32_t minFrameDuration_ = 0;
    EncodeType encodeType_ = ENCODE_TYPE_NULL;
};

}  // namespace V1_0

namespace V1_1 {

enum ExtendedStreamInfoType : int32_t { EXTENDED_STREAM_INFO_QUICK_THUMBNAIL = 0 };

struct ExtendedStreamInfo {
    ExtendedStreamInfoType type = EXTENDED_STREAM_INFO_QUICK_THUMBNAIL;
    int32_t width = 0;
    int32_t height = 0;
    int32_t format = 0;
    int32_t dataspace = 0;
    std::shared_ptr<V1_0::BufferProducerSequenceable> bufferQueue;
};

struct StreamInfo_V1_1 {
    V1_0::StreamInfo v1_0;
    std::vector<ExtendedStreamInfo> extendedStreamInfos;
};

}  // namespace V1_1

namespace V1_3 {

enum MediaStreamType : int32_t {
    MEDIA_STREAM_TYPE_VIDEO = 0,
    MEDIA_STREAM_TYPE_METADATA = 1,
    MEDIA_STREAM_TYPE_MAKER = 2
};

struct StreamDescription {
    int32_t streamId = 0;
    MediaStreamType type = MEDIA_STREAM_TYPE_VIDEO;
    int32_t pixelFormat = 0;
    int32_t width = 0;
    int32_t height = 0;
    int32_t dataspace = 0;
};

}  // namespace V1_3

}  // namespace OHOS::HDI::Camera
