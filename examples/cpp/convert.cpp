#include "convert.h"

#include <map>

namespace hdi = OHOS::HDI::Camera;
namespace pb = videoprocess::v1;

pb::StreamInfoV11 ToMessage(const hdi::V1_1::StreamInfo_V1_1& stream) {
    pb::StreamInfoV11 message;
    pb::StreamInfo& info = *message.mutable_v1_0();
    info.set_stream_id(stream.v1_0.streamId_);
    info.set_width(stream.v1_0.width_);
    info.set_height(stream.v1_0.height_);
    info.set_format(stream.v1_0.format_);
    info.set_dataspace(stream.v1_0.dataspace_);
    info.set_intent(static_cast<pb::StreamIntent>(stream.v1_0.intent_));
    info.set_tunneled_mode(stream.v1_0.tunneledMode_);
    info.set_min_frame_duration(stream.v1_0.minFrameDuration_);
    info.set_encode_type(static_cast<pb::EncodeType>(stream.v1_0.encodeType_));
    for (const auto& each : stream.extendedStreamInfos) {
        pb::ExtendedStreamInfo& extended = *message.add_extended_stream_infos();
        extended.set_type(static_cast<pb::ExtendedStreamInfoType>(each.type));
        extended.set_width(each.width);
        extended.set_height(each.height);
        extended.set_format(each.format);
        extended.set_dataspace(each.dataspace);
    }
    return message;
}

hdi::V1_3::StreamDescription FromMessage(const pb::StreamDescription& message) {
    hdi::V1_3::StreamDescription description;
    description.streamId = message.stream_id();
    description.type = static_cast<hdi::V1_3::MediaStreamType>(message.type());
    description.pixelFormat = message.pixel_format();
    description.width = message.width();
    description.height = message.height();
    description.dataspace = message.dataspace();
    return description;
}

std::vector<hdi::V1_1::StreamInfo_V1_1> StreamsFor(const std::vector<hdi::V1_3::StreamDescription>& descriptions) {
    static const std::map<hdi::V1_3::MediaStreamType, hdi::V1_0::StreamIntent> kIntents = {
        {hdi::V1_3::MEDIA_STREAM_TYPE_VIDEO, hdi::V1_0::VIDEO},
        {hdi::V1_3::MEDIA_STREAM_TYPE_MAKER, hdi::V1_0::CUSTOM},
    };
    std::vector<hdi::V1_1::StreamInfo_V1_1> streams;
    for (const auto& description : descriptions) {
        const auto intent = kIntents.find(description.type);
        if (intent == kIntents.end()) {
            continue;  // the source's own metadata needs no stream: the result keeps it
        }
        hdi::V1_1::StreamInfo_V1_1 stream;
        stream.v1_0.streamId_ = description.streamId;
        stream.v1_0.width_ = description.width;
        stream.v1_0.height_ = description.height;
        stream.v1_0.format_ = description.pixelFormat;
        stream.v1_0.dataspace_ = description.dataspace;
        stream.v1_0.intent_ = intent->second;
        stream.v1_0.tunneledMode_ = true;
        streams.push_back(stream);
    }
    return streams;
}
