// Every field of a converted structure is where it belongs: `convert_test` ends with 0, or says what differs.

#include <google/protobuf/text_format.h>
#include <google/protobuf/util/message_differencer.h>

#include <iostream>
#include <memory>
#include <string>

#include "convert.h"

namespace pb = videoprocess::v1;
namespace hdi = OHOS::HDI::Camera;

namespace {

/// Whether a message is what the text says.
bool IsAs(const google::protobuf::Message& message, const std::string& text) {
    const std::unique_ptr<google::protobuf::Message> expected(message.New());
    if (!google::protobuf::TextFormat::ParseFromString(text, expected.get())) {
        return false;
    }
    google::protobuf::util::MessageDifferencer differencer;
    std::string differences;
    differencer.ReportDifferencesToString(&differences);
    const bool is_same = differencer.Compare(*expected, message);
    std::cerr << differences;
    return is_same;
}

bool AStreamIsConverted() {
    hdi::V1_1::StreamInfo_V1_1 stream;
    stream.v1_0.streamId_ = 11;
    stream.v1_0.width_ = 12;
    stream.v1_0.height_ = 13;
    stream.v1_0.format_ = 14;
    stream.v1_0.dataspace_ = 15;
    stream.v1_0.intent_ = hdi::V1_0::PREVIEW;
    stream.v1_0.tunneledMode_ = true;
    stream.v1_0.minFrameDuration_ = 16;
    stream.v1_0.encodeType_ = hdi::V1_0::ENCODE_TYPE_H265;
    hdi::V1_1::ExtendedStreamInfo extended;
    extended.width = 21;
    extended.height = 22;
    extended.format = 23;
    extended.dataspace = 24;
    stream.extendedStreamInfos.push_back(extended);
    return IsAs(ToMessage(stream), R"(
        v1_0 {
          stream_id: 11 width: 12 height: 13 format: 14 dataspace: 15 intent: STREAM_INTENT_PREVIEW
          tunneled_mode: true min_frame_duration: 16 encode_type: ENCODE_TYPE_H265
        }
        extended_stream_infos {
          type: EXTENDED_STREAM_INFO_TYPE_QUICK_THUMBNAIL width: 21 height: 22 format: 23 dataspace: 24
        })");
}

bool WhatPrepareFoundBecomesTheFrameworksStreams() {
    pb::StreamDescription video;
    video.set_stream_id(1);
    video.set_type(pb::MEDIA_STREAM_TYPE_VIDEO);
    video.set_pixel_format(24);
    video.set_width(1920);
    video.set_height(1080);
    video.set_dataspace(4260097);
    pb::StreamDescription metadata = video;
    metadata.set_type(pb::MEDIA_STREAM_TYPE_METADATA);
    pb::StreamDescription maker;
    maker.set_stream_id(2);
    maker.set_type(pb::MEDIA_STREAM_TYPE_MAKER);
    const auto streams = StreamsFor({FromMessage(video), FromMessage(metadata), FromMessage(maker)});
    return streams.size() == 2 && IsAs(ToMessage(streams[0]), R"(
        v1_0 {
          stream_id: 1 width: 1920 height: 1080 format: 24 dataspace: 4260097 intent: STREAM_INTENT_VIDEO
          tunneled_mode: true encode_type: ENCODE_TYPE_NULL
        })") && IsAs(ToMessage(streams[1]), R"(
        v1_0 { stream_id: 2 intent: STREAM_INTENT_CUSTOM tunneled_mode: true encode_type: ENCODE_TYPE_NULL })");
}

}  // namespace

int main() {
    const bool is_right = AStreamIsConverted() && WhatPrepareFoundBecomesTheFrameworksStreams();
    std::cerr << (is_right ? "as it should be" : "converted wrongly") << std::endl;
    return is_right ? 0 : 1;
}
