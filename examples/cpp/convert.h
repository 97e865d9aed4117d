// Between the HDI's structures and the messages of the wire. Numbers are the same on both sides.

#pragma once

#include <vector>

#include "hdi_camera_types.h"
#include "videoprocess/v1/types.pb.h"

/// A stream as the HDI has it, for CreateStreams. Its surface stays behind: the output is kept for Download.
videoprocess::v1::StreamInfoV11 ToMessage(const OHOS::HDI::Camera::V1_1::StreamInfo_V1_1& stream);

/// A track that Prepare found, as the HDI has it.
OHOS::HDI::Camera::V1_3::StreamDescription FromMessage(const videoprocess::v1::StreamDescription& description);

/// The streams that OpenHarmony's framework makes of Prepare's answer: the video and the maker track.
std::vector<OHOS::HDI::Camera::V1_1::StreamInfo_V1_1> StreamsFor(
    const std::vector<OHOS::HDI::Camera::V1_3::StreamDescription>& descriptions);
